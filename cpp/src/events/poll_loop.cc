#include "events/poll_loop.h"

#include <pthread.h>

#include <algorithm>
#include <csignal>
#include <exception>
#include <utility>

#include "kvroute/base/error.h"
#include "kvroute/base/log.h"

namespace kvroute::detail {
namespace {

/// Signals are for the process's other threads; an interpreter's handlers must not run here.
void block_signals() noexcept {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
}

}  // namespace

PollLoop::PollLoop(std::chrono::milliseconds idle_wait)
    : idle_wait_(idle_wait), thread_([this] { run(); }) {}

PollLoop::~PollLoop() { close(); }

void PollLoop::add(StreamId id, std::unique_ptr<StreamDriver> driver) {
  {
    const std::lock_guard lock(mutex_);
    if (closing_) throw InvalidArgument("the subscriber is closed");
    published_.emplace(id, Published{driver->endpoint(), driver->stats()});
    commands_.push_back({id, std::move(driver)});
  }
  wake_.raise();
}

bool PollLoop::remove(StreamId id) {
  refuse_own_thread("remove_stream");
  std::unique_lock lock(mutex_);
  const auto entry = published_.find(id);
  if (entry == published_.end()) return false;
  const bool first = !std::exchange(entry->second.leaving, true);
  if (first) commands_.push_back({id, nullptr});
  wake_.raise();
  changed_.wait(lock, [&] { return ended_ || !published_.contains(id); });
  return first;
}

void PollLoop::close() {
  refuse_own_thread("close");
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  wake_.raise();
  const std::lock_guard lock(join_mutex_);
  if (thread_.joinable()) thread_.join();
}

std::optional<StreamStats> PollLoop::stats(StreamId id) const {
  const std::lock_guard lock(mutex_);
  const auto entry = published_.find(id);
  if (entry == published_.end()) return std::nullopt;
  return entry->second.stats;
}

std::optional<std::string> PollLoop::endpoint(StreamId id) const {
  const std::lock_guard lock(mutex_);
  const auto entry = published_.find(id);
  if (entry == published_.end()) return std::nullopt;
  return entry->second.endpoint;
}

void PollLoop::refuse_own_thread(const char* what) const {
  if (thread_.get_id() != std::this_thread::get_id()) return;
  throw InvalidArgument(std::string(what) + ": a sink must not call it");
}

void PollLoop::run() noexcept {
  block_signals();
  try {
    while (obey()) {
      wait();
      serve_ready();
    }
  } catch (const std::exception& error) {
    kvroute::log(LogLevel::kError, std::string("the event thread ends: ") + error.what());
  }
  active_.clear();
  const std::lock_guard lock(mutex_);
  commands_.clear();
  published_.clear();
  closing_ = true;
  ended_ = true;
  changed_.notify_all();
}

bool PollLoop::obey() {
  std::deque<Command> commands;
  {
    const std::lock_guard lock(mutex_);
    if (closing_) return false;
    commands.swap(commands_);
  }
  for (Command& command : commands) {
    if (command.added) {
      active_.emplace(command.id, Active{std::move(command.added)});
      continue;
    }
    active_.erase(command.id);
    const std::lock_guard lock(mutex_);
    published_.erase(command.id);
    changed_.notify_all();
  }
  return true;
}

void PollLoop::wait() {
  items_.clear();
  items_.push_back({nullptr, wake_.fd(), ZMQ_POLLIN, 0});
  Time due = Time::max();
  for (auto& [id, active] : active_) {
    active.first_item = items_.size();
    active.driver->list_sockets(items_);
    active.end_item = items_.size();
    due = std::min(due, active.driver->deadline());
  }
  std::chrono::milliseconds timeout = idle_wait_;
  if (due != Time::max()) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(due - std::chrono::steady_clock::now());
    timeout = std::clamp(left, std::chrono::milliseconds(0), idle_wait_);
  }
  try {
    zmq::poll(items_, timeout);
  } catch (const zmq::error_t& error) {
    if (error.num() != EINTR) throw;
    for (zmq::pollitem_t& item : items_) item.revents = 0;
  }
  if ((items_.front().revents & ZMQ_POLLIN) != 0) wake_.drain();
}

void PollLoop::serve_ready() {
  const Time now = std::chrono::steady_clock::now();
  for (auto& [id, active] : active_) {
    if (!is_ready(active, now)) continue;
    serve(id, *active.driver, std::chrono::steady_clock::now());
    const std::lock_guard lock(mutex_);
    const auto entry = published_.find(id);
    if (entry != published_.end()) entry->second.stats = active.driver->stats();
    if (closing_ || !commands_.empty()) return;
  }
}

bool PollLoop::is_ready(const Active& active, Time now) const noexcept {
  for (std::size_t i = active.first_item; i < active.end_item; ++i) {
    if (items_[i].revents != 0) return true;
  }
  return active.driver->deadline() <= now;
}

void PollLoop::serve(StreamId id, StreamDriver& driver, Time now) noexcept {
  try {
    driver.serve(now);
  } catch (const std::exception& error) {
    // Out of memory, or a socket that broke. What was lost shows as a gap.
    kvroute::log(LogLevel::kError,
                 "event stream " + std::to_string(id) + ": " + std::string(error.what()));
  }
}

}  // namespace kvroute::detail
