// Two legs of one request: Router::Impl's choice of a pair of targets.

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "policy/pair_leg.h"
#include "router/explaining.h"
#include "router/router_impl.h"

namespace kvroute {
namespace {

using detail::Decision;
using detail::PairLeg;

constexpr std::string_view kPrefillId = "/prefill";
constexpr std::string_view kDecodeId = "/decode";

// Working memory of one decision beside Decision's, used again for the next one of the thread.
struct PairScratch {
  static PairScratch& of_this_thread() {
    static thread_local PairScratch scratch;
    return scratch;
  }
  detail::Eligibility decode;
  PairChooser chooser;
};

PairRequest with_phases(const PairRequest& given) {
  PairRequest request = given;
  request.prefill.phase = Phase::kPrefill;
  request.decode.phase = Phase::kDecode;
  request.decode.name = given.prefill.name;
  request.decode.token_ids = given.prefill.token_ids;
  request.decode.by_hashes = given.prefill.by_hashes;
  return request;
}

std::shared_ptr<const PairLeg> leg_of(PairLeg::Half half, Slot other, const PairPick& pick,
                                      const detail::TargetTable& targets) {
  return std::make_shared<const PairLeg>(half, other, pick.costs, targets.places());
}

}  // namespace

// Who both legs may be chosen of, but for overload, and the hashes.
void Router::Impl::begin_pair(const PairRequest& request, bool reasons) const {
  Decision& decision = Decision::of_this_thread();
  detail::Eligibility& decode = PairScratch::of_this_thread().decode;
  decision.begin(request.prefill, options_.block_size);
  decode.find(request.decode, targets_, reasons);
  decode.require_somebody(request.decode, targets_);
  decision.find_eligible(request.prefill, targets_, reasons);
  decision.eligibility().require_somebody(request.prefill, targets_);
  decision.hash(request.prefill, options_.block_size, indexes_);
  expire(now());
}

PairInput Router::Impl::pairs_of(const PairRequest& request, const ScoreInput& input) const {
  detail::Eligibility& prefill = Decision::of_this_thread().eligibility();
  detail::Eligibility& decode = PairScratch::of_this_thread().decode;
  const auto drop_overloaded = [&](detail::Eligibility& eligible, const Request& leg) {
    if (!options_.overload.any()) return;
    eligible.drop_overloaded(options_.overload, input);
    eligible.require_somebody(leg, targets_);
  };
  drop_overloaded(decode, request.decode);
  drop_overloaded(prefill, request.prefill);
  return {.request = input,
          .prefill = prefill.slots(),
          .decode = decode.slots(),
          .places = *targets_.places()};
}

// Before either leg is noted: both rest on the same loads.
void Router::Impl::record_pair(const PairInput& pairs, const PairPick& pick, const LogNote& note,
                               const std::string& request_id) {
  const auto record = [&](PairLeg::Half half, const detail::Eligibility& eligible, Slot chosen,
                          Slot other, std::string_view end) {
    ScoreInput input = pairs.request;
    input.candidates = eligible.slots();
    const std::string id = request_id + std::string(end);
    log_.record(input, load_.revisions(), leg_of(half, other, pick, targets_), note.roster,
                {.chosen = chosen, .request_id = id, .excluded = eligible.excluded(), .given = {}});
  };
  const Slot prefill = pairs.prefill[pick.prefill];
  const Slot decode = pairs.decode[pick.decode];
  record(PairLeg::Half::kPrefill, Decision::of_this_thread().eligibility(), prefill, decode,
         kPrefillId);
  record(PairLeg::Half::kDecode, PairScratch::of_this_thread().decode, decode, prefill, kDecodeId);
}

ReservedPair Router::Impl::reserve_pair(const PairRequest& given, std::string request_id) {
  const std::shared_lock lock(targets_mutex_);
  check_open();
  const PairRequest request = with_phases(given);
  begin_pair(request, log_.is_on());
  const LogNote note = log_note();
  const std::lock_guard load_lock(load_mutex_);
  (void)end_expired(2);
  const std::string id = free_request_id(std::move(request_id), {kPrefillId, kDecodeId});
  Decision& decision = Decision::of_this_thread();
  decision.match(targets_, indexes_);
  const ScoreInput input = input_of(decision, request.prefill);
  const PairInput pairs = pairs_of(request, input);
  const PairPick pick = PairScratch::of_this_thread().chooser.choose(pairs, pair_options_,
                                                                     pick_states_.front().random);
  const Slot prefill = pairs.prefill[pick.prefill];
  const Slot decode = pairs.decode[pick.decode];
  const double seconds = pick.costs.of(pairs, prefill, decode).total();
  if (log_.is_on()) record_pair(pairs, pick, note, id);
  for (const Slot slot : {prefill, decode}) {
    load_.note_pick(slot, input.uncached_tokens(slot), input.now);
    ++selections_;
  }
  const auto selection = [&](Slot slot) {
    return Selection{.target = targets_.target(slot),
                     .cached_tokens = input.cached_tokens(slot),
                     .prefill_tokens = input.uncached_tokens(slot),
                     .cost = seconds,
                     .rule = kJointRule,
                     .alternatives = {}};
  };
  ReservedPair reserved;
  reserved.prefill =
      book(decision, request.prefill, prefill, selection(prefill), id + std::string(kPrefillId));
  try {
    reserved.decode =
        book(decision, request.decode, decode, selection(decode), id + std::string(kDecodeId));
  } catch (...) {  // out of memory
    if (const auto booking = load_.release(reserved.prefill.id, now())) end(*booking);
    throw;
  }
  return reserved;
}

// Under no lock is an explanation made, as in `explain`.
PairExplanation Router::Impl::explain_pair(const PairRequest& given) const {
  std::shared_lock lock(targets_mutex_);
  check_open();
  const PairRequest request = with_phases(given);
  begin_pair(request, true);
  expire_bookings();
  Decision& decision = Decision::of_this_thread();
  PairScratch& scratch = PairScratch::of_this_thread();
  decision.match(targets_, indexes_);
  const SeenLoads seen = see_loads();
  ScoreInput input = input_of(decision, request.prefill, seen);
  auto [options, random] = [&] {
    const std::lock_guard load_lock(load_mutex_);
    return std::pair(pair_options_, pick_states_.front().random);
  }();
  const PairInput pairs = pairs_of(request, input);
  const PairPick pick = scratch.chooser.choose(pairs, options, random);
  const Slot prefill = pairs.prefill[pick.prefill];
  const Slot decode = pairs.decode[pick.decode];
  const auto prefill_leg = leg_of(PairLeg::Half::kPrefill, decode, pick, targets_);
  const auto decode_leg = leg_of(PairLeg::Half::kDecode, prefill, pick, targets_);
  const std::vector<Slot> of_prefill(pairs.prefill.begin(), pairs.prefill.end());
  const std::vector<Slot> of_decode(pairs.decode.begin(), pairs.decode.end());
  const auto roster = roster_.of(targets_);
  lock.unlock();
  roster->give_to(input);
  const auto explain = [&](const PairLeg& leg, std::span<const Slot> candidates,
                           const detail::Eligibility& eligible) {
    input.candidates = candidates;
    return detail::explanation_of(leg, input, eligible.excluded(), roster->targets);
  };
  return {.prefill_target = roster->targets[prefill],
          .decode_target = roster->targets[decode],
          .prefill = explain(*prefill_leg, of_prefill, decision.eligibility()),
          .decode = explain(*decode_leg, of_decode, scratch.decode)};
}

PairOptions Router::Impl::pair_options() const {
  const std::lock_guard load_lock(load_mutex_);
  return pair_options_;
}

void Router::Impl::set_pair_options(const PairOptions& options) {
  options.check();
  const std::lock_guard load_lock(load_mutex_);
  pair_options_ = options;
}

}  // namespace kvroute
