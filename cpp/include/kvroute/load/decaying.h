#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "kvroute/base/clock.h"

namespace kvroute {

/// A sum whose past fades: what was added t seconds ago counts exp(-t / time_constant). For the
/// memory of recent assignments, which requests that come one at a time need: nothing is in flight
/// at any of their picks.
class DecayingSum {
 public:
  void add(double amount, Nanoseconds now, double time_constant) noexcept {
    value_ = value(now, time_constant) + amount;
    at_ = now;
  }
  [[nodiscard]] double value(Nanoseconds now, double time_constant) const noexcept {
    if (value_ == 0) return 0;
    const double age = ns_to_seconds(std::max<Nanoseconds>(now - at_, 0));
    return value_ * std::exp(-age / time_constant);
  }

 private:
  double value_ = 0;
  Nanoseconds at_ = 0;
};

/// A mean over about the last `memory` values, each weighing 1/memory when it comes; exact while
/// there are fewer. With weights: the running mean of weight times value by that of the weights, so
/// that a ratio weighted by its denominator becomes a ratio of sums.
class RunningMean {
 public:
  /// `weight` must be positive.
  void add(double value, double memory, double weight = 1) noexcept {
    count_ = std::min(count_ + 1, memory);
    weight_ += (weight - weight_) / count_;
    mean_ += (value - mean_) * (weight / (weight_ * count_));
  }
  /// Brings the mean into [least, most], if there is one.
  void hold(double least, double most) noexcept {
    if (!empty()) mean_ = std::clamp(mean_, least, most);
  }
  /// From now on the values so far weigh as a `share`, from 0 to 1, of as many.
  void fade(double share) noexcept { count_ *= share; }
  /// `absent` before the first value.
  [[nodiscard]] double value(double absent = 0) const noexcept {
    return count_ > 0 ? mean_ : absent;
  }
  [[nodiscard]] bool empty() const noexcept { return count_ == 0; }
  /// How many values it is the mean of, by their weight; at most the memory.
  [[nodiscard]] double count() const noexcept { return count_; }

 private:
  double mean_ = 0;
  double weight_ = 0;
  double count_ = 0;
};

/// Events a second, from a running mean of the gaps between them; a silence longer than the mean
/// gap lowers it. 0 before the second event. Events at one instant count with a gap of 0.
class ArrivalRate {
 public:
  void add(Nanoseconds now, double memory) noexcept {
    if (seen_) gap_.add(ns_to_seconds(std::max<Nanoseconds>(now - last_, 0)), memory);
    seen_ = true;
    last_ = now;
  }
  [[nodiscard]] double per_second(Nanoseconds now, double memory) const noexcept {
    return 1 / seconds_between(now, memory);
  }
  /// The reciprocal: infinite before the second event, 1e-9 at the least.
  [[nodiscard]] double seconds_between(Nanoseconds now, double memory) const noexcept {
    if (gap_.empty()) return std::numeric_limits<double>::infinity();
    const double gap = gap_.value();
    const double silence = ns_to_seconds(std::max<Nanoseconds>(now - last_, 0));
    return std::max(1e-9, gap + std::max(0.0, silence - gap) / memory);
  }

 private:
  RunningMean gap_;
  Nanoseconds last_ = 0;
  bool seen_ = false;
};

}  // namespace kvroute
