#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <string>
#include <string_view>
#include <utility>

#include "arguments.h"
#include "gil_release.h"
#include "index_face.h"
#include "kvroute/base/error.h"

namespace kvroute::python {
namespace {

/// An error of the system, to be raised as OSError once the GIL is held again.
struct FileError {
  int number = 0;
};

class File {
 public:
  File(const std::string& path, int flags) : fd_(::open(path.c_str(), flags | O_CLOEXEC, 0666)) {
    if (fd_ < 0) throw FileError{errno};
  }
  ~File() {
    if (fd_ >= 0) (void)::close(fd_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  void write(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t written = ::write(fd_, bytes.data(), bytes.size());
      if (written < 0 && errno != EINTR) throw FileError{errno};
      if (written > 0) bytes.remove_prefix(static_cast<std::size_t>(written));
    }
  }

  [[nodiscard]] std::string read() {
    struct stat state {};
    if (::fstat(fd_, &state) != 0) throw FileError{errno};
    std::string bytes;
    bytes.resize(S_ISREG(state.st_mode) ? static_cast<std::size_t>(state.st_size) : 0);
    std::size_t filled = 0;
    while (true) {
      if (filled == bytes.size()) bytes.resize(filled + kFurther);
      const ssize_t got = ::read(fd_, bytes.data() + filled, bytes.size() - filled);
      if (got < 0 && errno != EINTR) throw FileError{errno};
      if (got == 0) break;
      if (got > 0) filled += static_cast<std::size_t>(got);
    }
    bytes.resize(filled);
    return bytes;
  }

  /// What was written is on the disk.
  void sync() {
    if (::fsync(fd_) != 0) throw FileError{errno};
  }

  void close() {
    if (::close(std::exchange(fd_, -1)) != 0) throw FileError{errno};
  }

 private:
  static constexpr std::size_t kFurther = std::size_t{1} << 16;
  int fd_;
};

/// A new file beside `path`, under a name that nobody has, not even a process that is gone.
File make_draft(const std::string& path, std::string& draft) {
  static std::atomic<unsigned> counter{0};
  while (true) {
    draft = path + "." + std::to_string(::getpid()) + "." + std::to_string(counter++) + ".tmp";
    try {
      return {draft, O_WRONLY | O_CREAT | O_EXCL};
    } catch (const FileError& failed) {
      if (failed.number != EEXIST) throw;
    }
  }
}

/// Either the whole file or none: it is written under another name in the same folder first.
void write_whole(const std::string& path, std::string_view bytes) {
  std::string draft;
  File file = make_draft(path, draft);
  try {
    file.write(bytes);
    file.sync();
    file.close();
    if (::rename(draft.c_str(), path.c_str()) != 0) throw FileError{errno};
  } catch (const FileError&) {
    (void)::unlink(draft.c_str());
    throw;
  }
  const auto slash = path.rfind('/');
  File(slash == std::string::npos ? "." : path.substr(0, slash + 1), O_RDONLY | O_DIRECTORY).sync();
}

std::string path_of(py::handle object) {
  PyObject* encoded = nullptr;
  if (PyUnicode_FSConverter(object.ptr(), reinterpret_cast<void*>(&encoded)) == 0) {
    PyErr_Clear();
    throw InvalidArgument("path: expected a str, bytes or os.PathLike, got " + describe(object));
  }
  return py::reinterpret_steal<py::bytes>(encoded);
}

/// Runs `work` without the GIL; its FileError becomes an OSError that names the file.
template <typename Work>
void with_file(py::handle path, Work work) {
  try {
    const GilRelease released;
    work();
  } catch (const FileError& failed) {
    errno = failed.number;
    PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, path.ptr());
    throw py::error_already_set();
  }
}

}  // namespace

py::bytes IndexFace::snapshot() const {
  const PrefixIndex& index = use();
  std::string bytes;
  {
    const GilRelease released;
    bytes = index.snapshot();
  }
  return bytes;
}

void IndexFace::restore(py::handle snapshot) {
  Py_buffer view{};
  if (PyUnicode_Check(snapshot.ptr()) ||
      PyObject_GetBuffer(snapshot.ptr(), &view, PyBUF_SIMPLE) != 0) {
    PyErr_Clear();
    throw InvalidArgument("snapshot: expected bytes, got " + describe(snapshot));
  }
  const std::unique_ptr<Py_buffer, decltype(&PyBuffer_Release)> held(&view, &PyBuffer_Release);
  PrefixIndex& index = use();
  const GilRelease released;
  index.restore({static_cast<const char*>(view.buf), static_cast<std::size_t>(view.len)});
}

void IndexFace::save(py::handle path) const {
  const std::string name = path_of(path);
  const PrefixIndex& index = use();
  with_file(path, [&] { write_whole(name, index.snapshot()); });
}

void IndexFace::load(py::handle path) {
  const std::string name = path_of(path);
  PrefixIndex& index = use();
  with_file(path, [&] { index.restore(File(name, O_RDONLY).read()); });
}

}  // namespace kvroute::python
