#pragma once

namespace kvroute {

/// An element's neighbours in one list.
template <typename T>
struct ListLinks {
  T* before = nullptr;
  T* behind = nullptr;
};

/// Elements in order of insertion, linked through their own member `kLinks`, so that each can leave
/// in O(1) and nothing is allocated. The list does not own them: an element must leave before it
/// moves or ends, and be in one list per member at a time.
template <typename T, ListLinks<T> T::*kLinks>
class LinkedList {
 public:
  /// Null where the list is empty.
  [[nodiscard]] T* front() const noexcept { return first_; }

  void push_back(T& element) noexcept {
    (element.*kLinks) = {.before = last_, .behind = nullptr};
    (last_ != nullptr ? (last_->*kLinks).behind : first_) = &element;
    last_ = &element;
  }

  void remove(T& element) noexcept {
    const ListLinks<T> links = element.*kLinks;
    (links.before != nullptr ? (links.before->*kLinks).behind : first_) = links.behind;
    (links.behind != nullptr ? (links.behind->*kLinks).before : last_) = links.before;
    element.*kLinks = {};
  }

 private:
  T* first_ = nullptr;
  T* last_ = nullptr;
};

}  // namespace kvroute
