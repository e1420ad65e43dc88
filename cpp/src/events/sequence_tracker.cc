#include "kvroute/events/sequence_tracker.h"

namespace kvroute {

SequenceStep SequenceTracker::observe(std::uint64_t seq, std::uint64_t content) noexcept {
  if (last_live_) {
    const bool repeats = seq == last_live_->seq;
    const bool same = content == last_live_->content && !reconnected_;
    if (repeats && same) return {SequenceVerdict::duplicate};
    if (repeats || seq < last_live_->seq) {
      reset();
      return {SequenceVerdict::restart};
    }
  }
  last_live_ = Live{seq, content};
  reconnected_ = false;
  return place(seq, content);
}

void SequenceTracker::skip_to(std::uint64_t seq) noexcept {
  if (seq <= next_) return;
  next_ = seq;
  last_applied_content_.reset();
}

SequenceStep SequenceTracker::place(std::uint64_t seq, std::uint64_t content) noexcept {
  if (seq < next_) return {SequenceVerdict::duplicate};
  if (seq > next_) return {SequenceVerdict::gap, next_, seq};
  next_ = seq + 1;
  last_applied_content_ = content;
  return {SequenceVerdict::apply};
}

}  // namespace kvroute
