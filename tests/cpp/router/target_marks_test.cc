#include "router/target_marks.h"

#include <gtest/gtest.h>

#include <vector>

namespace kvroute::detail {
namespace {

using Slots = std::vector<Slot>;

TEST(TargetMarks, FindsWhoHasALabel) {
  TargetMarks marks;
  marks.add(Slots{0, 1}, {{"zone", "a"}});
  marks.add(Slots{2}, {{"zone", "b"}, {"model", "m"}});
  EXPECT_TRUE(marks.with_label("zone", "a").contains(1));
  EXPECT_FALSE(marks.with_label("zone", "a").contains(2));
  EXPECT_EQ(marks.with_label("zone").size(), 3U);
  EXPECT_EQ(marks.with_label("model").size(), 1U);
  EXPECT_TRUE(marks.with_label("zone", "c").empty());
  EXPECT_TRUE(marks.with_label("colour").empty());
}

TEST(TargetMarks, KeepsNamesAndValuesApart) {
  TargetMarks marks;
  marks.add(Slots{0}, {{"a", "bc"}});
  marks.add(Slots{1}, {{"ab", "c"}});
  EXPECT_FALSE(marks.with_label("a", "bc").contains(1));
  EXPECT_FALSE(marks.with_label("ab", "c").contains(0));
}

TEST(TargetMarks, ReplacesTheAdaptersThatWereResident) {
  TargetMarks marks;
  marks.set_loras(Slots{0, 1}, {"x", "y"});
  marks.set_loras(Slots{1}, {"z"});
  EXPECT_TRUE(marks.with_lora("x").contains(0));
  EXPECT_FALSE(marks.with_lora("x").contains(1));
  EXPECT_TRUE(marks.with_lora("z").contains(1));
  marks.set_loras(Slots{0}, {});
  EXPECT_TRUE(marks.with_lora("x").empty());
}

TEST(TargetMarks, ForgetsAllOfATarget) {
  TargetMarks marks;
  marks.add(Slots{0, 1}, {{"zone", "a"}});
  marks.set_loras(Slots{0, 1}, {"x"});
  marks.set_draining(Slots{0, 1}, true);
  marks.remove(Slots{0});
  EXPECT_EQ(marks.with_label("zone", "a").size(), 1U);
  EXPECT_EQ(marks.with_lora("x").size(), 1U);
  EXPECT_EQ(marks.draining().size(), 1U);
  marks.remove(Slots{1});
  EXPECT_TRUE(marks.with_label("zone").empty());
  EXPECT_TRUE(marks.draining().empty());
}

}  // namespace
}  // namespace kvroute::detail
