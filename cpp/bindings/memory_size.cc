#include "memory_size.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <string>
#include <string_view>
#include <utility>

#include "arguments.h"
#include "kvroute/base/error.h"

namespace kvroute::python {
namespace {

constexpr double kLargest = 1e15;

std::optional<double> unit(std::string_view text) {
  constexpr std::array<std::pair<std::string_view, double>, 10> kUnits{
      {{"", 1},
       {"b", 1},
       {"kb", 1e3},
       {"mb", 1e6},
       {"gb", 1e9},
       {"tb", 1e12},
       {"kib", 1024.0},
       {"mib", 1024.0 * 1024},
       {"gib", 1024.0 * 1024 * 1024},
       {"tib", 1024.0 * 1024 * 1024 * 1024}}};
  for (const auto& [name, bytes] : kUnits) {
    if (text == name) return bytes;
  }
  return std::nullopt;
}

std::optional<std::size_t> parse(std::string text) {
  std::erase_if(text, [](unsigned char c) { return std::isspace(c) != 0; });
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  double number = 0;
  const auto result =
      std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  if (result.ec != std::errc{}) return std::nullopt;
  const auto scale =
      unit(std::string_view(text).substr(static_cast<std::size_t>(result.ptr - text.data())));
  if (!scale || !(number >= 0) || number * *scale > kLargest) return std::nullopt;
  return static_cast<std::size_t>(number * *scale);
}

}  // namespace

std::optional<std::size_t> memory_size(py::handle object, const char* field) {
  if (object.is_none()) return std::nullopt;
  std::optional<std::size_t> bytes;
  if (PyUnicode_Check(object.ptr())) {
    bytes = parse(std::string(*text_or_none(object, field)));
  } else if (PyLong_Check(object.ptr()) && !PyBool_Check(object.ptr())) {
    int overflow = 0;
    const long long number = PyLong_AsLongLongAndOverflow(object.ptr(), &overflow);
    if (overflow == 0 && number >= 0 && static_cast<double>(number) <= kLargest) {
      bytes = static_cast<std::size_t>(number);
    }
  }
  if (bytes) return bytes;
  throw InvalidArgument(std::string(field) +
                        ": expected None, a number of bytes, or a text such as '512MiB', got " +
                        describe(object));
}

}  // namespace kvroute::python
