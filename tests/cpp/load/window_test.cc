#include "kvroute/load/window.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <map>

#include "kvroute/base/random.h"

namespace kvroute {
namespace {

constexpr std::int64_t kParts = 16;
constexpr Nanoseconds kSecond = 1'000'000'000;

/// The same by summing up all parts that count, the oldest first.
class PlainWindow {
 public:
  explicit PlainWindow(double length) : part_ns_(seconds_to_ns(length / kParts)) {}

  void add(double amount, Nanoseconds now) {
    newest_ = std::max(newest_, now / part_ns_);
    ++parts_[newest_].count;
    parts_[newest_].sum += amount;
  }
  [[nodiscard]] Window::Total total(Nanoseconds now) const {
    Window::Total all;
    const auto oldest = std::max(now / part_ns_, newest_) - kParts + 1;
    for (auto part = parts_.lower_bound(oldest); part != parts_.end(); ++part) {
      all.count += part->second.count;
      all.sum += part->second.sum;
    }
    return all;
  }

 private:
  Nanoseconds part_ns_;
  std::map<std::int64_t, Window::Total> parts_;
  std::int64_t newest_ = 0;
};

void expect_same(const Window::Total& got, const Window::Total& wanted, Nanoseconds at) {
  ASSERT_EQ(got.count, wanted.count) << at;
  ASSERT_EQ(got.sum, wanted.sum) << at;  // bit by bit: added in the same order
}

TEST(Window, SaysWhatItsPartsAddUpTo) {
  Random random(7);
  for (const double length : {60.0, 1.0, 0.37}) {
    Window window;
    PlainWindow plain(length);
    Nanoseconds now = 0;
    const auto whole = static_cast<double>(seconds_to_ns(length));
    for (int step = 0; step < 20'000; ++step) {
      // Mostly within a part; at times some parts on, or beyond the window.
      const double pace = random.below(200) == 0 ? 2.5 : random.below(20) == 0 ? 0.4 : 0.01;
      now += static_cast<Nanoseconds>(random.uniform() * pace * whole);
      const double amount = 1000 * random.uniform();
      window.add(amount, now, length);
      plain.add(amount, now);
      const auto later = now + static_cast<Nanoseconds>(random.uniform() * 1.2 * whole);
      for (const Nanoseconds at : {now, later}) {
        expect_same(window.total(at, length), plain.total(at), at);
      }
    }
  }
}

TEST(Window, IsReadOfManyAtOnePart) {
  Window early;
  Window late;
  early.add(3, 10 * kSecond, 60);
  late.add(5, 50 * kSecond, 60);
  late.add(7, 60 * kSecond, 60);
  const Window::Part now(75 * kSecond, 60);
  EXPECT_EQ(early.total(now).count, 0U);
  EXPECT_EQ(late.total(now).count, 2U);
  EXPECT_EQ(late.total(now).sum, 12);
  EXPECT_EQ(Window().total(now).count, 0U);
}

// The window moves with what is added, not back with a reader's clock.
TEST(Window, AnEarlierReaderSeesWhatTheNewestPartSees) {
  Window window;
  window.add(1, 100 * kSecond, 60);
  window.add(2, 130 * kSecond, 60);
  EXPECT_EQ(window.total(90 * kSecond, 60).sum, 3);
}

}  // namespace
}  // namespace kvroute
