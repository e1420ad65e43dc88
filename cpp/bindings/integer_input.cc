#include "integer_input.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <memory>
#include <string_view>
#include <type_traits>

#include "kvroute/base/error.h"

namespace kvroute::python {
namespace {

static_assert(std::endian::native == std::endian::little);

// How far ahead of the converted element its object is fetched: lists that were not filled in
// order of allocation are scattered over the heap.
constexpr std::size_t kPrefetch = 16;

// Value of an int that fits one or no digit of CPython's representation and is not negative.
inline bool small_value(PyObject* item, std::uint64_t& value) noexcept {
  if (!PyLong_CheckExact(item)) return false;
  const auto* number = reinterpret_cast<const PyLongObject*>(item);
#if PY_VERSION_HEX >= 0x030C0000
  if (!PyUnstable_Long_IsCompact(number)) return false;
  const Py_ssize_t compact = PyUnstable_Long_CompactValue(number);
  if (compact < 0) return false;
  value = static_cast<std::uint64_t>(compact);
#else
  const Py_ssize_t digits = Py_SIZE(number);
  if (digits < 0 || digits > 1) return false;
  value = digits == 0 ? 0 : number->ob_digit[0];
#endif
  return true;
}

// Value of an int of at most 64 bits that is not negative: hashes rarely fit one digit.
inline bool long_value(PyObject* item, std::uint64_t& value) noexcept {
  static_assert(PyLong_SHIFT == 30);
  if (!PyLong_CheckExact(item)) return false;
  const auto* number = reinterpret_cast<const PyLongObject*>(item);
#if PY_VERSION_HEX >= 0x030C0000
  constexpr unsigned kSign = 3;
  constexpr unsigned kNegative = 2;
  if ((number->long_value.lv_tag & kSign) == kNegative) return false;
  const std::size_t digits = number->long_value.lv_tag >> 3;
  const digit* const parts = number->long_value.ob_digit;
#else
  if (Py_SIZE(number) < 0) return false;
  const auto digits = static_cast<std::size_t>(Py_SIZE(number));
  const digit* const parts = number->ob_digit;
#endif
  if (digits > 3 || (digits == 3 && parts[2] >> 4 != 0)) return false;
  value = digits > 0 ? parts[0] : 0;
  if (digits > 1) value |= std::uint64_t{parts[1]} << 30;
  if (digits > 2) value |= std::uint64_t{parts[2]} << 60;
  return true;
}

template <typename T>
bool plain_value(PyObject* item, std::uint64_t& value) noexcept {
  if constexpr (std::is_same_v<T, std::uint32_t>) {
    return small_value(item, value);
  } else {
    return long_value(item, value);
  }
}

std::string type_name(PyObject* object) { return Py_TYPE(object)->tp_name; }

std::string format_name(const Py_buffer& view) {
  const std::string format = view.format != nullptr ? view.format : "B";
  if (format == "d" || format == "f" || format == "e" || format == "g") {
    return "floats of " + std::to_string(view.itemsize) + " bytes";
  }
  if (format == "?") return "booleans";
  return "elements of format '" + format + "'";
}

template <typename T>
constexpr std::string_view kRange =
    std::is_same_v<T, std::uint32_t> ? "0 <= id < 2**32" : "0 <= hash < 2**64";

}  // namespace

template <typename T>
IntegerInput<T>::IntegerInput(py::handle object, const char* field, Reading reading)
    : field_(field), reading_(reading) {
  PyObject* const input = object.ptr();
  if (PyList_Check(input) || PyTuple_Check(input)) {
    take_sequence(object);
    return;
  }
  if (PyBytes_Check(input) || PyByteArray_Check(input) || PyUnicode_Check(input) ||
      PyObject_CheckBuffer(input) == 0) {
    refuse_type(type_name(input));
  }
  if (PyObject_GetBuffer(input, &view_, PyBUF_RECORDS_RO) != 0) {
    if (PyErr_ExceptionMatches(PyExc_MemoryError) != 0) throw py::error_already_set();
    const py::error_already_set problem;
    refuse_type("a " + type_name(input) + " (" + py::str(problem.value()).cast<std::string>() +
                ")");
  }
  has_view_ = true;
  try {
    take_buffer(PyMemoryView_Check(input) != 0);
  } catch (...) {
    PyBuffer_Release(&view_);
    throw;
  }
}

template <typename T>
IntegerInput<T>::~IntegerInput() {
  if (has_view_) PyBuffer_Release(&view_);
}

template <typename T>
T* IntegerInput<T>::make_copy(std::size_t count) {
  copy_ = std::make_unique_for_overwrite<T[]>(count);
  values_ = {copy_.get(), count};
  return copy_.get();
}

// Elements that are not plain ints may run Python code, which may change the list: its size is
// therefore looked up again for every element, and each element is held while it is converted.
template <typename T>
void IntegerInput<T>::take_sequence(py::handle sequence) {
  PyObject* const input = sequence.ptr();
  const auto count = static_cast<std::size_t>(PySequence_Fast_GET_SIZE(input));
  T* const out = make_copy(count);
  for (std::size_t i = 0; i < count; ++i) {
    if (static_cast<std::size_t>(PySequence_Fast_GET_SIZE(input)) != count) {
      throw InvalidArgument(std::string(field_) + ": the list changed while it was read");
    }
    PyObject* const* const items = PySequence_Fast_ITEMS(input);
    std::uint64_t value = 0;
    for (; i < count; ++i) {
      __builtin_prefetch(items[std::min(i + kPrefetch, count - 1)]);
      if (!plain_value<T>(items[i], value)) break;
      out[i] = static_cast<T>(value);
    }
    if (i < count) out[i] = unusual_element(items[i], i);
  }
}

template <typename T>
T IntegerInput<T>::unusual_element(PyObject* item, std::size_t position) const {
  if (PyBool_Check(item) || PyIndex_Check(item) == 0) {
    refuse_element(position, "a " + type_name(item));
  }
  const auto held = py::reinterpret_borrow<py::object>(item);
  const auto number = py::reinterpret_steal<py::object>(PyNumber_Index(item));
  if (!number) throw py::error_already_set();
  const unsigned long long value = PyLong_AsUnsignedLongLong(number.ptr());
  if (value == std::numeric_limits<unsigned long long>::max() && PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    refuse_element(position, py::str(number).cast<std::string>());
  }
  if (value > std::numeric_limits<T>::max()) refuse_element(position, std::to_string(value));
  return static_cast<T>(value);
}

template <typename T>
void IntegerInput<T>::take_buffer(bool is_memoryview) {
  if (view_.ndim != 1) {
    refuse_type("a buffer of " + std::to_string(view_.ndim) + " dimensions");
  }
  std::string_view format = view_.format != nullptr ? view_.format : "B";
  if (!format.empty() && (format[0] == '@' || format[0] == '=' || format[0] == '<')) {
    format.remove_prefix(1);
  }
  if (is_memoryview && view_.itemsize == 1) {
    refuse_type("a memoryview of single bytes (use .cast('I') or .cast('Q'))");
  }
  constexpr std::string_view kSigned = "bhilqn";
  constexpr std::string_view kUnsigned = "BHILQN";
  const bool is_signed = format.size() == 1 && kSigned.find(format[0]) != std::string_view::npos;
  const bool is_unsigned =
      format.size() == 1 && kUnsigned.find(format[0]) != std::string_view::npos;
  switch (is_signed || is_unsigned ? view_.itemsize : 0) {
    case 1: return is_signed ? read_buffer<std::int8_t>() : read_buffer<std::uint8_t>();
    case 2: return is_signed ? read_buffer<std::int16_t>() : read_buffer<std::uint16_t>();
    case 4: return is_signed ? read_buffer<std::int32_t>() : read_buffer<std::uint32_t>();
    case 8: return is_signed ? read_buffer<std::int64_t>() : read_buffer<std::uint64_t>();
    default: refuse_type(format_name(view_));
  }
}

namespace {

/// The 64 bits of an integer; those of a negative one begin with the sign.
template <typename Source>
std::uint64_t widened(Source value) noexcept {
  if constexpr (std::is_signed_v<Source>) {
    return static_cast<std::uint64_t>(std::int64_t{value});
  } else {
    return value;
  }
}

}  // namespace

template <typename T>
template <typename Source>
void IntegerInput<T>::read_buffer() {
  const auto count = static_cast<std::size_t>(view_.shape[0]);
  const auto stride = static_cast<std::ptrdiff_t>(view_.strides[0]);
  const auto* const bytes = static_cast<const unsigned char*>(view_.buf);
  const bool aligned = reinterpret_cast<std::uintptr_t>(bytes) % alignof(T) == 0;
  if constexpr (std::is_same_v<Source, T>) {
    if (reading_ == Reading::in_place && stride == sizeof(T) && aligned) {
      values_ = {reinterpret_cast<const T*>(bytes), count};
      return;
    }
  }
  T* const out = make_copy(count);
  std::uint64_t misfit = 0;  // bits that no T has, of all elements together
  constexpr auto kMisfit = ~std::uint64_t{std::numeric_limits<T>::max()};
  constexpr std::uint64_t kSign = std::is_signed_v<Source> ? std::uint64_t{1} << 63 : 0;
  const auto element = [&](std::size_t i) {
    Source value;
    std::memcpy(&value, bytes + static_cast<std::ptrdiff_t>(i) * stride, sizeof(value));
    return value;
  };
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint64_t wide = widened(element(i));
    misfit |= wide & (kMisfit | kSign);
    out[i] = static_cast<T>(wide);
  }
  if (misfit == 0) return;
  for (std::size_t i = 0; i < count; ++i) {
    const Source value = element(i);
    if ((widened(value) & (kMisfit | kSign)) != 0) {
      refuse_element(i, std::to_string(value));
    }
  }
}

template <typename T>
void IntegerInput<T>::refuse_element(std::size_t position, const std::string& got) const {
  throw InvalidArgument(std::string(field_) + "[" + std::to_string(position) +
                        "]: expected an integer, " + std::string(kRange<T>) + ", got " + got);
}

template <typename T>
void IntegerInput<T>::refuse_type(const std::string& got) const {
  throw InvalidArgument(std::string(field_) +
                        ": expected a list or tuple of ints, or a one-dimensional array or buffer "
                        "of integers, got " +
                        got);
}

template class IntegerInput<std::uint32_t>;
template class IntegerInput<std::uint64_t>;

namespace {

py::object make_array(const char* type_code, const void* data, std::size_t bytes) {
  static const py::handle array_type =
      py::object(py::module_::import("array").attr("array")).release();
  py::object array = array_type(type_code);
  array.attr("frombytes")(py::memoryview::from_memory(data, static_cast<py::ssize_t>(bytes)));
  return array;
}

}  // namespace

py::object to_array(std::span<const std::uint32_t> values) {
  return make_array("I", values.data(), values.size_bytes());
}

py::object to_array(std::span<const std::uint64_t> values) {
  return make_array("Q", values.data(), values.size_bytes());
}

}  // namespace kvroute::python
