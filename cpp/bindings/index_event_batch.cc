#include "index_event_batch.h"

#include <string>
#include <utility>

#include "arguments.h"
#include "for_each_item.h"
#include "kvroute/base/error.h"
#include "tier_name.h"
#include "worker_name.h"

namespace kvroute::python {
namespace {

std::string_view kind_of(const py::tuple& fields) {
  if (!fields.empty() && PyUnicode_Check(fields[0].ptr())) {
    const auto kind = *text_or_none(fields[0], "kind");
    for (const auto* known : {"store", "store_known", "remove", "clear"}) {
      if (kind == known) return known;
    }
  }
  throw InvalidArgument("[0]: expected 'store', 'store_known', 'remove' or 'clear', got " +
                        (!fields.empty() ? describe(fields[0]) : std::string("an empty tuple")));
}

void check_length(const py::tuple& fields, std::size_t least, std::size_t most, const char* form) {
  if (fields.size() >= least && fields.size() <= most) return;
  throw InvalidArgument(": expected " + std::string(form) +
                        (most > least ? " and possibly a tier" : "") + ", got " +
                        std::to_string(fields.size()) + " fields");
}

void check_lengths(const IndexEvent& event) {
  if (event.engine_hashes.size() == event.local_hashes.size()) return;
  throw InvalidArgument("local_hashes: expected as many as engine_hashes (" +
                        std::to_string(event.engine_hashes.size()) + "), got " +
                        std::to_string(event.local_hashes.size()));
}

}  // namespace

IndexEventBatch::IndexEventBatch(py::handle events) {
  for_each_item(events, "events", "an iterable of event tuples",
                [this](py::handle event) { add(event); });
}

void IndexEventBatch::add(py::handle object) {
  if (!PyTuple_Check(object.ptr()) && !PyList_Check(object.ptr())) {
    throw InvalidArgument(": expected a tuple, got " + describe(object));
  }
  const auto fields = py::reinterpret_steal<py::tuple>(PySequence_Tuple(object.ptr()));
  const std::string_view kind = kind_of(fields);
  IndexEvent event;
  if (kind == "store") {
    check_length(fields, 6, 7, "('store', worker, dp_rank, parent, engine_hashes, local_hashes)");
    event.parent = unsigned_64_or_none(fields[3], "parent");
    event.engine_hashes = hashes(fields[4], "engine_hashes");
    event.local_hashes = hashes(fields[5], "local_hashes");
    check_lengths(event);
    if (fields.size() == 7) event.tier = tier_of(fields[6], "tier");
  } else if (kind == "store_known") {
    check_length(fields, 5, 5, "('store_known', worker, dp_rank, engine_hashes, tier)");
    event.engine_hashes = hashes(fields[3], "engine_hashes");
    event.tier = tier_of(fields[4], "tier");
  } else if (kind == "remove") {
    check_length(fields, 4, 5, "('remove', worker, dp_rank, engine_hashes)");
    event.kind = IndexEvent::Kind::remove;
    event.engine_hashes = hashes(fields[3], "engine_hashes");
    if (fields.size() == 5) event.tier = tier_of(fields[4], "tier");
  } else {
    check_length(fields, 3, 3, "('clear', worker, dp_rank)");
    event.kind = IndexEvent::Kind::clear;
  }
  event.target = {worker_name(fields[1], "worker"), unsigned_32(fields[2], "dp_rank")};
  events_.push_back(std::move(event));
}

std::span<const std::uint64_t> IndexEventBatch::hashes(py::handle object, const char* field) {
  return inputs_.emplace_back(object, field, Reading::copied).values();
}

}  // namespace kvroute::python
