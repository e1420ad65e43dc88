#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "arguments.h"
#include "gil_release.h"
#include "index_report.h"
#include "integer_input.h"
#include "kvroute/base/error.h"
#include "kvroute/index/prefix_index.h"
#include "memory_size.h"
#include "process_guard.h"
#include "pybind.h"
#include "worker_name.h"

namespace kvroute::python {
namespace {

/// kvroute.Overlaps: {(worker, dp_rank): depth}. Lives in Python alone, so it may own its objects.
class OverlapMapping {
 public:
  explicit OverlapMapping(const std::vector<std::pair<TargetId, std::uint32_t>>& depths) {
    for (const auto& [target, depth] : depths) {
      py::tuple key = to_python(target);
      depths_[key] = depth;
      targets_.append(std::move(key));
      values_.push_back(depth);
    }
  }

  [[nodiscard]] const py::dict& depths() const noexcept { return depths_; }
  [[nodiscard]] py::tuple arrays() const {
    return py::make_tuple(py::list(targets_.attr("copy")()), to_array(values_));
  }

 private:
  py::dict depths_;
  py::list targets_;
  std::vector<std::uint32_t> values_;
};

void bind_overlaps(py::module_& module) {
  py::class_<OverlapMapping> overlaps(
      module, "Overlaps", py::is_final(),
      "A mapping {(worker, dp_rank): depth in blocks} of the targets with a depth of at least 1.");
  overlaps
      .def(
          "__getitem__",
          [](const OverlapMapping& self, py::handle key) {
            return self.depths().attr("__getitem__")(key);
          },
          py::arg("key"), py::pos_only())
      .def("__iter__", [](const OverlapMapping& self) { return py::iter(self.depths()); })
      .def("__len__", [](const OverlapMapping& self) { return self.depths().size(); })
      .def("__contains__",
           [](const OverlapMapping& self, py::handle key) { return self.depths().contains(key); })
      .def("__eq__",
           [](const OverlapMapping& self, py::handle other) {
             return self.depths().equal(
                 py::isinstance<OverlapMapping>(other)
                     ? py::object(other.cast<const OverlapMapping&>().depths())
                     : py::reinterpret_borrow<py::object>(other));
           })
      .def("__repr__",
           [](const OverlapMapping& self) {
             return "Overlaps(" + py::repr(self.depths()).cast<std::string>() + ")";
           })
      .def("arrays", &OverlapMapping::arrays,
           "Targets, and their depths as array('I'), in the same order.");
  for (const char* name : {"keys", "values", "items"}) {
    overlaps.def(name, [name](const OverlapMapping& self) { return self.depths().attr(name)(); });
  }
  overlaps.def(
      "get",
      [](const OverlapMapping& self, py::handle key, py::handle fallback) {
        return self.depths().attr("get")(key, fallback);
      },
      py::arg("key"), py::arg("default") = py::none());
  overlaps.attr("__hash__") = py::none();
  py::module_::import("collections.abc").attr("Mapping").attr("register")(overlaps);
}

/// kvroute.PrefixIndex.
class IndexFace {
 public:
  IndexFace(py::handle memory_limit, const std::string& repeated_stores)
      : limit_(memory_size(memory_limit, "memory_limit")),
        index_(std::make_shared<PrefixIndex>(options(limit_, repeated_stores))) {}

  ~IndexFace() {
    if (!index_.is_home()) return;
    const GilRelease released;
    index_.reset();
  }
  IndexFace(const IndexFace&) = delete;
  IndexFace& operator=(const IndexFace&) = delete;

  [[nodiscard]] PrefixIndex& use() const {
    if (index_.is_home()) return index_.get();
    throw Error("PrefixIndex: it was made before a fork; make one in this process");
  }

  std::uint32_t store(py::handle worker, py::handle engine_hashes, py::handle local_hashes,
                      py::handle parent, py::handle dp_rank) {
    const TargetId target{worker_name(worker, "worker"), unsigned_32(dp_rank, "dp_rank")};
    const HashInput engine(engine_hashes, "engine_hashes");
    const HashInput local(local_hashes, "local_hashes");
    const auto parent_hash = unsigned_64_or_none(parent, "parent");
    PrefixIndex& index = use();
    const GilRelease released;
    return index.store(target, parent_hash, engine.values(), local.values()).applied;
  }

  std::uint32_t remove(py::handle worker, py::handle engine_hashes, py::handle dp_rank) {
    const TargetId target{worker_name(worker, "worker"), unsigned_32(dp_rank, "dp_rank")};
    const HashInput engine(engine_hashes, "engine_hashes");
    PrefixIndex& index = use();
    const GilRelease released;
    return index.remove(target, engine.values()).removed;
  }

  void clear(py::handle worker, py::handle dp_rank) {
    const WorkerName name = worker_name(worker, "worker");
    const auto rank = unsigned_32_or_none(dp_rank, "dp_rank");
    PrefixIndex& index = use();
    const GilRelease released;
    index.clear(name, rank);
  }

  void remove_worker(py::handle worker) {
    const WorkerName name = worker_name(worker, "worker");
    PrefixIndex& index = use();
    const GilRelease released;
    index.remove_worker(name);
  }

  [[nodiscard]] OverlapMapping match(py::handle local_hashes) const {
    const HashInput local(local_hashes, "local_hashes");
    PrefixIndex& index = use();
    std::vector<std::pair<TargetId, std::uint32_t>> depths;
    {
      const GilRelease released;
      depths = index.match(local.values());
    }
    return OverlapMapping(depths);
  }

  [[nodiscard]] py::list targets() const {
    const PrefixIndex& index = use();
    std::vector<TargetId> ids;
    {
      const GilRelease released;
      ids = index.targets();
    }
    py::list targets;
    for (const TargetId& target : ids) targets.append(to_python(target));
    return targets;
  }

  [[nodiscard]] IndexReport stats() const {
    const PrefixIndex& index = use();
    const GilRelease released;
    return {.block_size = 0,
            .targets = index.targets().size(),
            .memory_limit = limit_,
            .stats = index.stats()};
  }

 private:
  static IndexOptions options(std::optional<std::size_t> limit, const std::string& repeated) {
    if (repeated != "count" && repeated != "set") {
      throw InvalidArgument("repeated_stores: expected 'count' or 'set', got '" + repeated + "'");
    }
    return {.memory_limit = limit,
            .predicted_ttl_seconds = IndexOptions{}.predicted_ttl_seconds,
            .count_copies = repeated == "count"};
  }

  std::optional<std::size_t> limit_;
  ProcessGuard<PrefixIndex> index_;
};

}  // namespace

void bind_index(py::module_& module) {
  bind_overlaps(module);
  const auto none = py::none();
  py::class_<IndexFace>(module, "PrefixIndex", py::is_final(),
                        "What each target holds, by itself: of one block size, fed and asked in "
                        "hashes.")
      .def(py::init<py::handle, const std::string&>(), py::arg("memory_limit") = none,
           py::kw_only(), py::arg("repeated_stores") = "count")
      .def("store", &IndexFace::store, py::arg("worker"), py::arg("engine_hashes"),
           py::arg("local_hashes"), py::arg("parent") = none, py::arg("dp_rank") = 0,
           "The target now holds these consecutive blocks; gives how many are new.")
      .def("remove", &IndexFace::remove, py::arg("worker"), py::arg("engine_hashes"),
           py::arg("dp_rank") = 0, "Gives the number of blocks no longer held.")
      .def("clear", &IndexFace::clear, py::arg("worker"), py::arg("dp_rank") = none,
           "Forgets all blocks of the worker, or of one of its ranks.")
      .def("remove_worker", &IndexFace::remove_worker, py::arg("worker"),
           "Forgets the worker and its targets.")
      .def("match", &IndexFace::match, py::arg("local_hashes"),
           "Reachable depth in blocks of each target that holds at least the first block.")
      .def("targets", &IndexFace::targets, "Targets that have stored blocks.")
      .def("stats", &IndexFace::stats)
      .def("__reduce__", [](py::handle) -> py::object {
        throw py::type_error("PrefixIndex cannot be pickled: it has locks");
      });
}

}  // namespace kvroute::python
