#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kvroute/base/random.h"
#include "kvroute/policy/score_input.h"

namespace kvroute {

/// Where a target is. Equal numbers are the same place, and 0 is no place that is known. A host is
/// in one zone; who has a host has a zone.
struct Place {
  std::uint32_t zone = 0;
  std::uint32_t host = 0;
};

/// Seconds a token, of the choice of a pair. Defaults: a model of 70 billion parameters on four
/// H100, as `PrefillModel` has, whose cache is 327,680 bytes a token (80 layers, 8 heads of 128, 16
/// bits), by the rates of its links: NVLink (1.8 TB/s), four of 400 Gbit/s, one of 200 Gbit/s, and
/// of its memory (13.4 TB/s). Measured ones are better.
struct PairOptions {
  double same_host = 1.8e-7;  ///< transfer between targets of one host
  double same_zone = 1.6e-6;  ///< ... of one zone
  double elsewhere = 1.3e-5;  ///< ... of two zones
  double step = 2.4e-8;       ///< that a token in use makes each step of a decode target longer
  double decode_steps = 1;    ///< how many steps of the answer count; 1: those to first token

  /// \throws InvalidArgument for a number outside [0, 1e6], and for a rate that is less than that
  /// of a shorter way
  void check() const;
};

/// What a pair is chosen for and of whom.
struct PairInput {
  ScoreInput request;             ///< whose `candidates` are not looked at
  std::span<const Slot> prefill;  ///< who may compute the prompt; ascending, at least one
  std::span<const Slot> decode;   ///< who may give the answer; the same
  std::span<const Place> places;  ///< by slot
};

/// The parts of a pair's predicted time to first token, in seconds:
///
///     queue    = what is left of the prefill target's backlog
///     prefill  = of the tokens that it does not hold (both as in `Ttft`)
///     transfer = tokens of the prompt that the decode target does not hold * seconds a token
///     decode   = decode_steps * step * tokens in use on the decode target, with the prompt's
///
/// A target hands over to itself in no time. To or from a target whose place is not known a token
/// takes the mean of all pairs of candidates whose places are known; where there is none, as long
/// as in one zone. So who says nothing neither wins nor is avoided.
///
/// `decode` is infinite where the target's blocks would not hold the request and its expected
/// output (`total_blocks` known), unless that is so of all decode candidates.
struct PairSeconds {
  double queue = 0;
  double prefill = 0;
  double transfer = 0;
  double decode = 0;
  [[nodiscard]] double total() const noexcept { return queue + prefill + transfer + decode; }
};

/// What the pairs of one decision have in common, and the time of each. Pure.
class PairCosts {
 public:
  /// `unknown`: seconds a token to or from a target whose place is not known. `heeds_room`: some
  /// decode candidate has room.
  PairCosts(const PairOptions& options, double unknown, bool heeds_room) noexcept
      : options_(options), unknown_(unknown), heeds_room_(heeds_room) {}

  [[nodiscard]] PairSeconds of(const PairInput& input, Slot prefill, Slot decode) const noexcept;
  /// Of the transfer from one target to another.
  [[nodiscard]] double seconds_per_token(const PairInput& input, Slot from, Slot to) const noexcept;
  [[nodiscard]] double unknown() const noexcept { return unknown_; }
  [[nodiscard]] const PairOptions& options() const noexcept { return options_; }
  [[nodiscard]] bool heeds_room() const noexcept { return heeds_room_; }

 private:
  PairOptions options_;
  double unknown_;
  bool heeds_room_;
};

/// Positions among `PairInput::prefill` and `PairInput::decode`, and what they were chosen by.
struct PairPick {
  std::size_t prefill = 0;
  std::size_t decode = 0;
  PairCosts costs;
};

/// Chooses the pair of the least `PairSeconds::total`, but for what predictions cannot tell apart.
/// A pair counts as equal to it if its queue and prefill take at most 5 % and 1 ms longer, and its
/// transfer and decode too. Of those pairs, the decode target with the fewest tokens in use is
/// taken, of equals any, evenly; of those with it, the prefill target that was chosen least of
/// late, then that with the fewest tokens in use, then any, evenly.
///
/// Keeps its memory from one use to the next. O(candidates + greatest place). Not thread-safe.
class PairChooser {
 public:
  [[nodiscard]] PairPick choose(const PairInput& input, const PairOptions& options, Random& random);

 private:
  // Of the prefill candidates in some place: whose prompt is computed first, and how many they are.
  struct First {
    double seconds;
    std::size_t at;
    std::size_t count;
    void add(double ready, std::size_t position) noexcept;
  };
  struct Decode {
    double tokens;    // to be transferred
    double seconds;   // after the transfer
    std::size_t own;  // its position among the prefill candidates, if it is there
  };

  void find_first(const PairInput& input);
  [[nodiscard]] double mean_between_known(const PairInput& input, const PairOptions& options) const;
  [[nodiscard]] PairCosts find_decode(const PairInput& input, const PairOptions& options);
  template <typename Take>
  void for_each_way(const PairInput& input, const PairCosts& costs, std::size_t decode,
                    const Take& take) const;

  std::vector<double> prefill_;  // seconds with the queue, by position
  std::vector<Decode> decode_;   // by position
  std::vector<First> of_host_;   // by number; the first is nobody's
  std::vector<First> of_zone_;
  First known_{};    // of all whose place is known
  First unknown_{};  // of all others
};

}  // namespace kvroute
