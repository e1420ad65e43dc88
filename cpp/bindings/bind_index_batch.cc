#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "for_each_item.h"
#include "gil_release.h"
#include "index_event_batch.h"
#include "index_face.h"
#include "integer_input.h"
#include "tier_name.h"
#include "worker_name.h"

namespace kvroute::python {
namespace {

/// A chain as the visitor of `for_each_held` saw it.
struct DumpedChain {
  TargetId target;
  Tier tier;
  std::optional<std::uint64_t> parent;
  std::vector<std::uint64_t> engine_hashes;
  std::vector<std::uint64_t> local_hashes;
};

py::object to_python(std::optional<std::uint64_t> parent) {
  return parent ? py::object(py::int_(*parent)) : py::object(py::none());
}

}  // namespace

ApplyResult IndexFace::apply(py::handle events) {
  const IndexEventBatch batch(events);
  PrefixIndex& index = use();
  const GilRelease released;
  return index.apply(batch.events());
}

py::list IndexFace::match_many(py::handle requests) const {
  std::deque<HashInput> inputs;
  std::vector<std::span<const std::uint64_t>> spans;
  for_each_item(requests, "requests", "an iterable of local hashes", [&](py::handle request) {
    spans.push_back(inputs.emplace_back(request, "local_hashes").values());
  });
  const PrefixIndex& index = use();
  std::vector<std::vector<std::pair<TargetId, std::uint32_t>>> answers;
  {
    const GilRelease released;
    answers = index.match_many(spans);
  }
  py::list mappings;
  for (const auto& depths : answers) mappings.append(py::cast(OverlapMapping(depths)));
  return mappings;
}

// Copied first: objects are made with the GIL, which must not be asked for while writers wait. What
// hangs below a block that has no name left could only be stored at another place.
py::list IndexFace::dump() const {
  const PrefixIndex& index = use();
  std::vector<DumpedChain> chains;
  {
    const GilRelease released;
    index.for_each_held([&chains](const TargetId& target, const HeldChain& chain) {
      if (!chain.parent && !chain.parent_held) return;
      chains.push_back({target,
                        chain.tier,
                        chain.parent,
                        {chain.engine_hashes.begin(), chain.engine_hashes.end()},
                        {chain.local_hashes.begin(), chain.local_hashes.end()}});
    });
  }
  py::list events;
  for (const DumpedChain& chain : chains) {
    events.append(py::make_tuple("store", to_python(chain.target.worker), chain.target.dp_rank,
                                 to_python(chain.parent), to_array(chain.engine_hashes),
                                 to_array(chain.local_hashes), to_python(chain.tier)));
  }
  return events;
}

void bind_apply_result(py::module_& module) {
  py::class_<ApplyResult>(module, "ApplyResult", py::is_final(),
                          "What became of a batch of events, in blocks.")
      .def_readonly("stored", &ApplyResult::stored)
      .def_readonly("duplicates", &ApplyResult::duplicates)
      .def_readonly("removed", &ApplyResult::removed)
      .def_readonly("waiting", &ApplyResult::waiting)
      .def_readonly("unknown", &ApplyResult::unknown)
      .def("__repr__", [](const ApplyResult& r) {
        return "ApplyResult(stored=" + std::to_string(r.stored) +
               ", duplicates=" + std::to_string(r.duplicates) +
               ", removed=" + std::to_string(r.removed) + ", waiting=" + std::to_string(r.waiting) +
               ", unknown=" + std::to_string(r.unknown) + ")";
      });
}

}  // namespace kvroute::python
