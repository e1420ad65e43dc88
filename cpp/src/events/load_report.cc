#include "kvroute/events/load_report.h"

#include <charconv>
#include <cmath>
#include <cstddef>
#include <system_error>

namespace kvroute {
namespace {

/// Walks over one JSON text. Each `skip_` and `read_` function consumes what it names, or says that
/// it is not there; after a false nothing more is read.
class JsonCursor {
 public:
  explicit JsonCursor(std::string_view text) noexcept : rest_(text) {}

  [[nodiscard]] bool at_end() noexcept {
    skip_space();
    return rest_.empty();
  }

  [[nodiscard]] bool take(char wanted) noexcept {
    skip_space();
    if (rest_.empty() || rest_.front() != wanted) return false;
    rest_.remove_prefix(1);
    return true;
  }

  /// The text between the quotes, escapes as they stand: no key of ours needs any.
  [[nodiscard]] std::optional<std::string_view> read_string() noexcept {
    if (!take('"')) return std::nullopt;
    for (std::size_t i = 0; i < rest_.size(); ++i) {
      if (rest_[i] == '\\') {
        ++i;
      } else if (rest_[i] == '"') {
        const std::string_view text = rest_.substr(0, i);
        rest_.remove_prefix(i + 1);
        return text;
      }
    }
    return std::nullopt;
  }

  /// A number's own text, by RFC 8259's grammar.
  [[nodiscard]] std::optional<std::string_view> read_number() noexcept {
    skip_space();
    std::size_t at = 0;
    const auto digits = [&] {
      const std::size_t begin = at;
      while (at < rest_.size() && rest_[at] >= '0' && rest_[at] <= '9') ++at;
      return at - begin;
    };
    const auto is = [&](std::string_view any) {
      return at < rest_.size() && any.find(rest_[at]) != std::string_view::npos;
    };
    if (is("-")) ++at;
    const std::size_t first = at;
    const std::size_t whole = digits();
    if (whole == 0 || (whole > 1 && rest_[first] == '0')) return std::nullopt;
    if (is(".")) {
      ++at;
      if (digits() == 0) return std::nullopt;
    }
    if (is("eE")) {
      ++at;
      if (is("+-")) ++at;
      if (digits() == 0) return std::nullopt;
    }
    const std::string_view number = rest_.substr(0, at);
    rest_.remove_prefix(at);
    return number;
  }

  [[nodiscard]] bool skip_value(int depth) noexcept {
    constexpr int kMaxDepth = 32;
    skip_space();
    if (rest_.empty() || depth > kMaxDepth) return false;
    switch (rest_.front()) {
      case '{': return skip_object(depth);
      case '[': return skip_array(depth);
      case '"': return read_string().has_value();
      case 't': return skip_word("true");
      case 'f': return skip_word("false");
      case 'n': return skip_word("null");
      default: return read_number().has_value();
    }
  }

 private:
  void skip_space() noexcept {
    const std::size_t first = rest_.find_first_not_of(" \t\r\n");
    rest_.remove_prefix(first == std::string_view::npos ? rest_.size() : first);
  }

  [[nodiscard]] bool skip_word(std::string_view word) noexcept {
    if (!rest_.starts_with(word)) return false;
    rest_.remove_prefix(word.size());
    return true;
  }

  [[nodiscard]] bool skip_object(int depth) noexcept {
    if (!take('{')) return false;
    if (take('}')) return true;
    do {
      if (!read_string() || !take(':') || !skip_value(depth + 1)) return false;
    } while (take(','));
    return take('}');
  }

  [[nodiscard]] bool skip_array(int depth) noexcept {
    if (!take('[')) return false;
    if (take(']')) return true;
    do {
      if (!skip_value(depth + 1)) return false;
    } while (take(','));
    return take(']');
  }

  std::string_view rest_;
};

template <typename T>
[[nodiscard]] std::optional<T> number_of(std::optional<std::string_view> text) noexcept {
  if (!text) return std::nullopt;
  T value{};
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
  if (error != std::errc{} || end != text->data() + text->size()) return std::nullopt;
  return value;
}

/// A usage slightly above 1 is an engine's rounding, or blocks counted twice.
[[nodiscard]] std::optional<double> usage_of(std::optional<std::string_view> text) noexcept {
  constexpr double kHighest = 1.5;
  const std::optional<double> usage = number_of<double>(text);
  if (!usage || !(*usage >= 0.0) || *usage > kHighest) return std::nullopt;
  return std::fmin(*usage, 1.0);
}

}  // namespace

std::optional<LoadReport> parse_load_report(std::string_view json) noexcept {
  JsonCursor cursor(json);
  std::optional<std::uint32_t> waiting;
  std::optional<double> usage;
  if (!cursor.take('{')) return std::nullopt;
  do {
    const std::optional<std::string_view> key = cursor.read_string();
    if (!key || !cursor.take(':')) return std::nullopt;
    if (*key == "num_waiting_reqs") {
      if (waiting) return std::nullopt;
      waiting = number_of<std::uint32_t>(cursor.read_number());
      if (!waiting) return std::nullopt;
    } else if (*key == "kv_cache_usage") {
      if (usage) return std::nullopt;
      usage = usage_of(cursor.read_number());
      if (!usage) return std::nullopt;
    } else if (!cursor.skip_value(0)) {
      return std::nullopt;
    }
  } while (cursor.take(','));
  if (!cursor.take('}') || !cursor.at_end() || !waiting || !usage) return std::nullopt;
  return LoadReport{*usage, *waiting};
}

}  // namespace kvroute
