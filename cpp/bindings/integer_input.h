#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "pybind.h"

namespace kvroute::python {

/// Whether a buffer may be read where it lies. Other threads can write to it then, whatever it says
/// of itself: only for who reads each element once, or is safe with any.
enum class Reading : std::uint8_t { in_place, copied };

/// Integers that came from Python, as a span of `T` (u32 token ids or u64 hashes) that is valid as
/// long as this object: a view of the caller's buffer where that has the right type and is
/// contiguous (and `reading` allows it), a checked copy otherwise. Made and destroyed with the GIL
/// held; read without it.
///
/// Takes: a buffer of integers of any width (array.array, NumPy, memoryview; one dimension), or a
/// list or tuple of ints. Refuses, naming `field`: other types (text, bytes, floats, bool), more
/// than one dimension, and elements that are negative or do not fit `T`, with their position.
/// \throws InvalidArgument
template <typename T>
class IntegerInput {
 public:
  IntegerInput(py::handle object, const char* field, Reading reading = Reading::in_place);
  ~IntegerInput();
  IntegerInput(const IntegerInput&) = delete;
  IntegerInput& operator=(const IntegerInput&) = delete;

  [[nodiscard]] std::span<const T> values() const noexcept { return values_; }

 private:
  void take_sequence(py::handle sequence);
  [[nodiscard]] T unusual_element(PyObject* item, std::size_t position) const;
  void take_buffer(bool is_memoryview);
  template <typename Source>
  void read_buffer();
  [[nodiscard]] T* make_copy(std::size_t count);
  [[noreturn]] void refuse_element(std::size_t position, const std::string& got) const;
  [[noreturn]] void refuse_type(const std::string& got) const;

  const char* field_;
  Reading reading_;
  Py_buffer view_{};
  bool has_view_ = false;
  std::unique_ptr<T[]> copy_;
  std::span<const T> values_;
};

extern template class IntegerInput<std::uint32_t>;
extern template class IntegerInput<std::uint64_t>;

using TokenIds = IntegerInput<std::uint32_t>;
using HashInput = IntegerInput<std::uint64_t>;

/// array.array of type code "I" or "Q" with these values.
[[nodiscard]] py::object to_array(std::span<const std::uint32_t> values);
[[nodiscard]] py::object to_array(std::span<const std::uint64_t> values);

}  // namespace kvroute::python
