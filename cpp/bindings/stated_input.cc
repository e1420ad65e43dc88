#include "stated_input.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <string>
#include <utility>

#include "arguments.h"
#include "for_each_item.h"
#include "kvroute/base/error.h"
#include "kvroute/hash/block_hash.h"
#include "worker_name.h"

namespace kvroute::python {
namespace {

constexpr std::int64_t kMost64 = std::numeric_limits<std::int64_t>::max();
constexpr double kMostSeconds = 1e9;
constexpr double kMeanMemory = 64;  // of means that are stated by one value

std::uint64_t count(py::handle value, std::string_view field) {
  return static_cast<std::uint64_t>(integer(value, std::string(field).c_str(), 0, kMost64));
}

std::uint32_t small_count(py::handle value, std::string_view field) {
  return unsigned_32(value, std::string(field).c_str());
}

double amount(py::handle value, std::string_view field, double least = 0,
              double most = std::numeric_limits<double>::max()) {
  const double given = number(value, std::string(field).c_str());
  if (given >= least && given <= most) return given;
  throw InvalidArgument(std::string(field) + ": expected a number from " +
                        py::str(py::float_(least)).cast<std::string>() + " to " +
                        py::str(py::float_(most)).cast<std::string>() + ", got " + describe(value));
}

Nanoseconds time_of(py::handle value, std::string_view field) {
  return seconds_to_ns(amount(value, field, -kMostSeconds, kMostSeconds));
}

/// Times in seconds; `take` gets each.
template <typename Take>
void for_each_time(py::handle times, std::string_view field, Take take) {
  for_each_item(times, std::string(field).c_str(), "times in seconds",
                [&](py::handle item) { take(time_of(item, "")); });
}

/// Requests in a window: their times, or pairs of a time and its uncached tokens.
template <typename Take>
void for_each_request(py::handle requests, std::string_view field, Take take) {
  for_each_item(requests, std::string(field).c_str(), "times, or pairs of a time and tokens",
                [&](py::handle item) {
                  const bool is_pair =
                      PyTuple_Check(item.ptr()) && PyTuple_GET_SIZE(item.ptr()) == 2;
                  const py::handle at = is_pair ? PyTuple_GET_ITEM(item.ptr(), 0) : item.ptr();
                  const double tokens = is_pair ? amount(PyTuple_GET_ITEM(item.ptr(), 1), "") : 0;
                  take(time_of(at, ""), tokens);
                });
}

RunningMean mean_of(py::handle value, std::string_view field, double values = 1) {
  RunningMean mean;
  const double given = amount(value, field);
  while (mean.count() < values) mean.add(given, kMeanMemory);
  return mean;
}

template <typename Take>
void for_each_field(py::handle mapping, const char* what, Take take) {
  const auto items = py::reinterpret_steal<py::object>(PyMapping_Items(mapping.ptr()));
  if (!items) {
    PyErr_Clear();
    throw InvalidArgument(": expected a mapping of " + std::string(what) + ", got " +
                          describe(mapping));
  }
  for (const py::handle item : items) {
    const auto pair = py::reinterpret_borrow<py::tuple>(item);
    const auto name = text_or_none(pair[0], "name");
    if (!name) throw InvalidArgument("name: expected a str, got None");
    take(*name, pair[1]);
  }
}

[[noreturn]] void refuse_name(std::string_view name) {
  throw InvalidArgument(std::string(name) + ": there is no figure of this name");
}

}  // namespace

struct StatedInput::Target {
  TargetId id;
  std::array<std::optional<std::uint32_t>, kTiers> blocks;  // by tier
  std::uint32_t active = 0;
  std::uint32_t block_size = 1;
  std::uint64_t total_blocks = 0;
  double preference = 0;
  std::optional<double> report_age;
  double prefill_scale_age = 0;
  TargetLoad load;
  TargetHistory history;
  std::vector<Nanoseconds> arrivals;
};

StatedInput::StatedInput(py::handle targets, const StatedArguments& arguments) {
  take_request(arguments);
  if (!arguments.fleet.is_none()) {
    try {
      take_fleet(arguments.fleet);
    } catch (const InvalidArgument& refused) {
      const std::string what = refused.what();
      throw InvalidArgument("fleet" + std::string(what.starts_with(':') ? "" : ".") + what);
    }
  }
  for_each_item(targets, "targets", "a sequence of mappings",
                [this](py::handle target) { take_target(target); });
  if (loads_.empty()) throw InvalidArgument("targets: expected at least one, got none");
  if (fleet_.targets == 0) fleet_.targets = static_cast<std::uint32_t>(loads_.size());
  candidates_.resize(loads_.size());
  std::iota(candidates_.begin(), candidates_.end(), 0U);
  count_arrivals();
  order_by_name();
}

void StatedInput::take_request(const StatedArguments& request) {
  request_.num_tokens =
      static_cast<std::uint64_t>(integer(request.num_tokens, "num_tokens", 1, kMost64));
  request_.block_size =
      static_cast<std::uint32_t>(integer(request.block_size, "block_size", 1, 65'536));
  request_.now = time_of(request.now, "now");
  if (!request.local_hashes.is_none()) {
    hashes_.emplace(request.local_hashes, "local_hashes");
    request_.hashes = hashes_->values();
  }
  const auto session = text_or_none(request.session_id, "session_id").value_or("");
  if (!session.empty()) request_.session = hash_identifier(session);
  request_.expected_output_tokens =
      unsigned_32_or_none(request.expected_output_tokens, "expected_output_tokens");
  request_.overrides = overrides_of(request.overrides);
}

void StatedInput::take_fleet(py::handle fleet) {
  // First what others of its fields are counted with.
  for (const bool parameters : {true, false}) {
    for_each_field(fleet, "a fleet's figures", [&](std::string_view name, py::handle value) {
      const bool is_parameter = name == "recent_time_constant" || name == "window_seconds";
      if (is_parameter == parameters) take_fleet_field(name, value);
    });
  }
}

void StatedInput::take_fleet_field(std::string_view name, py::handle value) {
  if (name == "arrival_memory") {
    arrival_memory_ = amount(value, name, 1);
  } else if (name == "recent_time_constant") {
    fleet_.recent_time_constant = amount(value, name, 1e-6, kMostSeconds);
  } else if (name == "window_seconds") {
    fleet_.window_seconds = amount(value, name, 1e-6, kMostSeconds);
  } else if (name == "report_lifetime") {
    request_.report_lifetime_seconds = amount(value, name, 0, kMostSeconds);
  } else if (name == "targets") {
    fleet_.targets = small_count(value, name);
  } else if (name == "prefill_tokens_per_second") {
    fleet_.prefill.tokens_per_second = amount(value, name, 1e-6);
  } else if (name == "attention_seconds") {
    fleet_.prefill.attention_seconds = amount(value, name);
  } else if (name == "arrivals") {
    for_each_time(value, name, [this](Nanoseconds at) { fleet_arrivals_.push_back(at); });
  } else if (name == "prefill_seconds") {
    fleet_.prefill_seconds = mean_of(value, name);
  } else if (name == "prefill_scale") {
    fleet_.prefill_scale = mean_of(value, name);
  } else if (name == "output_tokens") {
    fleet_.output_tokens = mean_of(value, name);
  } else if (name == "decode_seconds") {
    fleet_.decode_seconds = mean_of(value, name);
  } else {
    refuse_name(name);
  }
}

void StatedInput::take_target(py::handle mapping) {
  Target target;
  target.id.worker = static_cast<std::int64_t>(loads_.size());
  target.block_size = request_.block_size;
  for_each_field(mapping, "a target's figures", [&](std::string_view name, py::handle value) {
    take_target_field(target, name, value);
  });
  target.load.prefill_measured_at = request_.now - seconds_to_ns(target.prefill_scale_age);
  if (target.report_age || target.load.reports > 0) {
    target.load.reports = 1;
    const Nanoseconds at = request_.now - seconds_to_ns(target.report_age.value_or(0));
    target.load.reported_times = {.waiting = at, .running = at, .kv_usage = at};
    target.load.reported_at = at;
  }
  add(target);
}

void StatedInput::take_target_field(Target& target, std::string_view name, py::handle value) {
  if (name == "name") {
    target.id.worker = worker_name(value, "name");
  } else if (name == "dp_rank") {
    target.id.dp_rank = small_count(value, name);
  } else if (name == "held") {
    target.blocks[index_of(Tier::device)] = small_count(value, name);
  } else if (name == "host") {
    target.blocks[index_of(Tier::host)] = small_count(value, name);
  } else if (name == "disk") {
    target.blocks[index_of(Tier::disk)] = small_count(value, name);
  } else if (name == "external") {
    target.blocks[index_of(Tier::external)] = small_count(value, name);
  } else if (name == "active") {
    target.active = small_count(value, name);
  } else if (name == "block_size") {
    target.block_size = static_cast<std::uint32_t>(integer(value, "block_size", 1, 65'536));
  } else if (name == "total_blocks") {
    target.total_blocks = count(value, name);
  } else if (name == "preference") {
    target.preference = amount(value, name, std::numeric_limits<double>::lowest());
  } else if (name == "report_age") {
    target.report_age = amount(value, name, 0, kMostSeconds);
  } else if (name == "prefill_scale_age") {
    target.prefill_scale_age = amount(value, name, 0, kMostSeconds);
  } else {
    take_load_field(target, name, value);
  }
}

void StatedInput::take_load_field(Target& target, std::string_view name, py::handle value) {
  TargetLoad& load = target.load;
  if (name == "prefill_tokens") {
    load.prefill_tokens = count(value, name);
  } else if (name == "prompt_blocks") {
    load.prompt_blocks = count(value, name);
  } else if (name == "output_blocks") {
    load.output_blocks = count(value, name);
  } else if (name == "requests") {
    load.requests = small_count(value, name);
  } else if (name == "prefilling") {
    load.prefilling = small_count(value, name);
  } else if (name == "expected_output_blocks") {
    load.expected_output_blocks = count(value, name);
  } else if (name == "backlog_seconds") {
    load.backlog_seconds = amount(value, name);
  } else if (name == "head_seconds") {
    load.head_seconds = amount(value, name);
  } else if (name == "head_started") {
    load.head_started = time_of(value, name);
  } else if (name == "waiting") {
    load.reported.waiting = small_count(value, name);
    load.reports = 1;
  } else if (name == "running") {
    load.reported.running = small_count(value, name);
    load.reports = 1;
  } else if (name == "kv_usage") {
    load.reported.kv_usage = amount(value, name, 0, 1);
    load.reports = 1;
  } else {
    take_history_field(target, name, value);
  }
}

void StatedInput::take_history_field(Target& target, std::string_view name, py::handle value) {
  TargetLoad& load = target.load;
  const Nanoseconds now = request_.now;
  if (name == "unreported") {
    load.unreported = small_count(value, name);
  } else if (name == "unfinished") {
    load.unfinished = small_count(value, name);
  } else if (name == "recent_requests") {
    load.recent_requests.add(amount(value, name), now, fleet_.recent_time_constant);
  } else if (name == "recent_tokens") {
    load.recent_tokens.add(amount(value, name), now, fleet_.recent_time_constant);
  } else if (name == "request_rate") {
    for_each_request(value, name, [&](Nanoseconds at, double tokens) {
      target.history.requests.add(tokens, at, fleet_.window_seconds);
    });
  } else if (name == "arrivals") {
    for_each_time(value, name, [&](Nanoseconds at) { target.arrivals.push_back(at); });
  } else if (name == "prefill_seconds") {
    load.prefill_seconds = mean_of(value, name);
  } else if (name == "prefill_scale") {
    load.prefill_scale = mean_of(value, name, kMeanMemory);
  } else if (name == "joined_at") {
    load.joined_at = time_of(value, name);
  } else {
    refuse_name(name);
  }
}

void StatedInput::add(const Target& target) {
  std::uint32_t depth = 0;
  for (std::size_t tier = 0; tier < kTiers; ++tier) {
    depth = std::max(depth, target.blocks[tier].value_or(0));
    depths_[tier].push_back(depth);
  }
  has_lower_tiers_ = has_lower_tiers_ || depth > depths_.front().back();
  names_.push_back(target.id);
  active_.push_back(target.active);
  block_sizes_.push_back(target.block_size);
  total_blocks_.push_back(target.total_blocks);
  identities_.push_back(hash_identifier(to_string(target.id)));
  preferences_.push_back(target.preference);
  loads_.push_back(target.load);
  histories_.push_back(target.history);
  arrivals_.push_back(target.arrivals);
}

// As LoadModel does, once it is known how many targets there are.
void StatedInput::count_arrivals() {
  fleet_.arrival_memory = arrival_memory_.value_or(kArrivalMemory * fleet_.targets);
  for (const Nanoseconds at : fleet_arrivals_) fleet_.arrivals.add(at, fleet_.arrival_memory);
  for (std::size_t target = 0; target < arrivals_.size(); ++target) {
    for (const Nanoseconds at : arrivals_[target]) loads_[target].arrivals.add(at, kArrivalMemory);
  }
}

void StatedInput::order_by_name() {
  std::vector<Slot> by_name = candidates_;
  std::ranges::sort(by_name, {}, [this](Slot slot) { return std::pair(names_[slot], slot); });
  turns_.resize(by_name.size());
  for (std::uint32_t turn = 0; turn < by_name.size(); ++turn) turns_[by_name[turn]] = turn;
}

ScoreInput StatedInput::input() const {
  ScoreInput input = request_;
  input.candidates = candidates_;
  input.held = depths_.front();
  if (has_lower_tiers_) {
    for (std::size_t tier = 0; tier < kTiers; ++tier) input.depths[tier] = depths_[tier];
  }
  input.active = active_;
  input.block_sizes = block_sizes_;
  input.total_blocks = total_blocks_;
  input.identities = identities_;
  input.turns = turns_;
  input.preferences = preferences_;
  input.loads = loads_;
  input.histories = histories_;
  input.fleet = &fleet_;
  return input;
}

}  // namespace kvroute::python
