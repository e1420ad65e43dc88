#include "kvroute/policy/pair_choice.h"

#include <algorithm>
#include <limits>
#include <sstream>
#include <utility>

#include "kvroute/base/error.h"
#include "policy/prediction.h"
#include "policy/ties.h"

namespace kvroute {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr std::size_t kNone = std::numeric_limits<std::size_t>::max();

void check_rate(double value, double least, const char* field) {
  if (value >= least && value <= 1e6) return;  // not so: NaN
  std::ostringstream message;
  message << field << ": expected a number from " << least << " to 1e6, got " << value;
  throw InvalidArgument(message.str());
}

double missing_tokens(const ScoreInput& request, Slot decode) noexcept {
  return static_cast<double>(request.uncached_tokens(decode));
}

// What the prompt and its answer are to decode targets.
class DecodeTimes {
 public:
  explicit DecodeTimes(const ScoreInput& request) noexcept
      : request_(request), full_blocks_(request), needed_(request) {}
  [[nodiscard]] bool has_room(Slot slot) const noexcept {
    const std::uint64_t total = request_.total_blocks[slot];
    return total == 0 || needed_(slot) <= static_cast<double>(total);
  }
  [[nodiscard]] double operator()(Slot slot, const PairCosts& costs) const noexcept {
    if (costs.heeds_room() && !has_room(slot)) return kInfinity;
    const std::uint64_t blocks = request_.loads[slot].active_blocks() + full_blocks_.added(slot);
    return costs.options().decode_steps * costs.options().step *
           static_cast<double>(blocks * request_.block_sizes[slot]);
  }

 private:
  const ScoreInput& request_;
  detail::FullBlocks full_blocks_;
  detail::BlocksNeeded needed_;
};

bool is_known(Place place) noexcept { return place.zone != 0; }

double between_known(const PairOptions& options, Place from, Place to) noexcept {
  if (from.zone != to.zone) return options.elsewhere;
  return from.host != 0 && from.host == to.host ? options.same_host : options.same_zone;
}

}  // namespace

void PairOptions::check() const {
  check_rate(same_host, 0, "same_host");
  check_rate(same_zone, same_host, "same_zone");
  check_rate(elsewhere, same_zone, "elsewhere");
  check_rate(step, 0, "step");
  check_rate(decode_steps, 0, "decode_steps");
}

double PairCosts::seconds_per_token(const PairInput& input, Slot from, Slot to) const noexcept {
  if (from == to) return 0;
  const Place source = input.places[from];
  const Place sink = input.places[to];
  return is_known(source) && is_known(sink) ? between_known(options_, source, sink) : unknown_;
}

PairSeconds PairCosts::of(const PairInput& input, Slot prefill, Slot decode) const noexcept {
  const ScoreInput& request = input.request;
  const double scale = detail::PrefillScales(request)(prefill);
  return {.queue = detail::backlog_left(request.loads[prefill], request.now, scale),
          .prefill = scale * request.fleet->prefill.seconds(request.num_tokens,
                                                            request.cached_tokens(prefill)),
          .transfer = missing_tokens(request, decode) * seconds_per_token(input, prefill, decode),
          .decode = DecodeTimes(request)(decode, *this)};
}

void PairChooser::First::add(double ready, std::size_t position) noexcept {
  if (count++ == 0 || ready < seconds) {
    seconds = ready;
    at = position;
  }
}

void PairChooser::find_first(const PairInput& input) {
  const detail::PrefillScales scales(input.request);
  prefill_.clear();
  of_host_.assign(of_host_.size(), First{});
  of_zone_.assign(of_zone_.size(), First{});
  known_ = unknown_ = First{};
  for (std::size_t at = 0; at < input.prefill.size(); ++at) {
    const Slot slot = input.prefill[at];
    const double ready = detail::time_to_first_token(input.request, slot, scales);
    prefill_.push_back(ready);
    const auto [zone, host] = input.places[slot];
    if (zone == 0) {
      unknown_.add(ready, at);
      continue;
    }
    known_.add(ready, at);
    if (zone >= of_zone_.size()) of_zone_.resize(zone + 1);
    of_zone_[zone].add(ready, at);
    if (host == 0) continue;
    if (host >= of_host_.size()) of_host_.resize(host + 1);
    of_host_[host].add(ready, at);
  }
}

// By how many prefill candidates are on each decode candidate's host, in its zone, and elsewhere.
double PairChooser::mean_between_known(const PairInput& input, const PairOptions& options) const {
  double sum = 0;
  double pairs = 0;
  const auto count = [](const std::vector<First>& of, std::uint32_t number) {
    return number > 0 && number < of.size() ? static_cast<double>(of[number].count) : 0.0;
  };
  const auto known = static_cast<double>(known_.count);
  for (const Slot slot : input.decode) {
    const Place place = input.places[slot];
    if (!is_known(place)) continue;
    const double near = count(of_host_, place.host);
    const double in_zone = count(of_zone_, place.zone);
    sum += near * options.same_host + (in_zone - near) * options.same_zone +
           (known - in_zone) * options.elsewhere;
    pairs += known;
  }
  return pairs > 0 ? sum / pairs : options.same_zone;
}

PairCosts PairChooser::find_decode(const PairInput& input, const PairOptions& options) {
  const DecodeTimes times(input.request);
  const PairCosts costs(
      options, mean_between_known(input, options),
      std::ranges::any_of(input.decode, [&](Slot slot) { return times.has_room(slot); }));
  decode_.clear();
  std::size_t own = 0;
  for (const Slot slot : input.decode) {
    while (own < input.prefill.size() && input.prefill[own] < slot) ++own;
    const bool is_own = own < input.prefill.size() && input.prefill[own] == slot;
    decode_.push_back({.tokens = missing_tokens(input.request, slot),
                       .seconds = times(slot, costs),
                       .own = is_own ? own : kNone});
  }
  return costs;
}

// Calls `take(first, seconds a token)` for the first of each place that the prompt may come from; a
// place may hold nearer ones.
template <typename Take>
void PairChooser::for_each_way(const PairInput& input, const PairCosts& costs, std::size_t decode,
                               const Take& take) const {
  if (const std::size_t own = decode_[decode].own; own != kNone) {
    take(First{prefill_[own], own, 1}, 0.0);
  }
  const auto offer = [&](const First& first, double rate) {
    if (first.count > 0) take(first, rate);
  };
  const auto [zone, host] = input.places[input.decode[decode]];
  offer(unknown_, costs.unknown());
  if (zone == 0) {
    offer(known_, costs.unknown());
    return;
  }
  if (host > 0 && host < of_host_.size()) offer(of_host_[host], costs.options().same_host);
  if (zone < of_zone_.size()) offer(of_zone_[zone], costs.options().same_zone);
  offer(known_, costs.options().elsewhere);
}

PairPick PairChooser::choose(const PairInput& input, const PairOptions& options, Random& random) {
  find_first(input);
  const PairCosts costs = find_decode(input, options);
  const auto rest = [&](std::size_t decode, double rate) {
    return decode_[decode].tokens * rate + decode_[decode].seconds;
  };

  double least = kInfinity;
  double prefill_of_least = 0;
  double rest_of_least = 0;
  for (std::size_t i = 0; i < decode_.size(); ++i) {
    for_each_way(input, costs, i, [&](const First& first, double rate) {
      if (first.seconds + rest(i, rate) >= least) return;
      least = first.seconds + rest(i, rate);
      prefill_of_least = first.seconds;
      rest_of_least = rest(i, rate);
    });
  }
  const double most_prefill = detail::nearly(prefill_of_least);
  const double most_rest = detail::nearly(rest_of_least);

  detail::LeastUsed<std::uint64_t> decode;
  for (std::size_t i = 0; i < decode_.size(); ++i) {
    bool is_equal = false;
    for_each_way(input, costs, i, [&](const First& first, double rate) {
      is_equal = is_equal || (first.seconds <= most_prefill && rest(i, rate) <= most_rest);
    });
    if (is_equal) decode.consider(i, detail::tokens_in_use(input.request, input.decode[i]), random);
  }
  detail::LeastUsed<std::pair<double, std::uint64_t>> prefill;
  for (std::size_t i = 0; i < prefill_.size(); ++i) {
    const Slot slot = input.prefill[i];
    const double rate = costs.seconds_per_token(input, slot, input.decode[decode.at()]);
    if (prefill_[i] > most_prefill || rest(decode.at(), rate) > most_rest) continue;
    prefill.consider(
        i, {detail::sent_of_late(input.request, slot), detail::tokens_in_use(input.request, slot)},
        random);
  }
  return {.prefill = prefill.at(), .decode = decode.at(), .costs = costs};
}

}  // namespace kvroute
