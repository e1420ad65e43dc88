#include <vector>

#include "index_report.h"
#include "kvroute/router/router_stats.h"
#include "pybind.h"
#include "worker_name.h"

namespace kvroute::python {
namespace {

py::dict index_counters(const IndexReport& report) {
  const IndexStats& s = report.stats;
  py::dict counters;
  counters["stored"] = s.stored;
  counters["duplicates"] = s.duplicates;
  counters["confirmed"] = s.confirmed;
  counters["renamed"] = s.renamed;
  counters["unknown_parents"] = s.unknown_parents;
  counters["adopted"] = s.adopted;
  counters["waited_in_vain"] = s.waited_in_vain;
  counters["removed"] = s.removed;
  counters["unknown_removed"] = s.unknown_removed;
  counters["predicted"] = s.predicted;
  counters["expired"] = s.expired;
  counters["outlived"] = s.outlived;
  counters["forgotten_exact"] = s.forgotten_exact;
  counters["forgotten_predicted"] = s.forgotten_predicted;
  return counters;
}

py::dict index_bytes(const IndexReport& report) {
  const IndexBytes& b = report.stats.bytes;
  py::dict bytes;
  bytes["labels"] = b.labels;
  bytes["names"] = b.names;
  bytes["nodes"] = b.nodes;
  bytes["edges"] = b.edges;
  bytes["coverage"] = b.coverage;
  bytes["requests"] = b.requests;
  bytes["waiting"] = b.waiting;
  return bytes;
}

py::dict event_counters(const TargetStats& target) {
  const StreamStats stream = target.stream.value_or(StreamStats{});
  py::dict counters;
  counters["batches"] = stream.batches;
  counters["stored_blocks"] = target.sink.stored_blocks;
  counters["removed_blocks"] = target.sink.removed_blocks;
  counters["stored_lower"] = target.sink.stored_lower;
  counters["removed_lower"] = target.sink.removed_lower;
  counters["clears"] = target.sink.clears;
  counters["duplicates"] = target.sink.duplicates;
  counters["unknown_parents"] = target.sink.unknown_parents;
  counters["unknown_blocks"] = target.sink.unknown_blocks;
  counters["refused_block_size"] = stream.events.refused_block_size;
  counters["gaps"] = stream.gaps;
  counters["replays"] = stream.replays;
  counters["failed_replays"] = stream.replay_failures;
  counters["lost_batches"] = stream.lost;
  counters["restarts"] = stream.restarts;
  counters["invalidations"] = stream.invalidations;
  counters["undecodable"] = stream.undecodable + stream.malformed_frames;
  counters["bad_events"] =
      stream.events.bad_events + stream.events.length_mismatch + stream.events.self_referencing;
  counters["ignored"] =
      target.sink.ignored + stream.events.other_groups + stream.events.unknown_events;
  counters["last_sequence"] =
      stream.last_seq ? py::cast(*stream.last_seq) : py::object(py::int_(-1));
  counters["connected"] = stream.connected ? 1 : 0;
  counters["partial"] = stream.partial ? 1 : 0;
  return counters;
}

void bind_index_stats(py::module_& module) {
  py::class_<IndexReport>(module, "IndexStats", py::is_final(), "State of one prefix index.")
      .def_readonly("block_size", &IndexReport::block_size)
      .def_readonly("targets", &IndexReport::targets)
      .def_readonly("memory_limit", &IndexReport::memory_limit)
      .def_property_readonly("blocks", [](const IndexReport& r) { return r.stats.blocks; })
      .def_property_readonly(
          "held", [](const IndexReport& r) { return r.stats.held_exact + r.stats.held_predicted; })
      .def_property_readonly("predicted",
                             [](const IndexReport& r) { return r.stats.held_predicted; })
      .def_property_readonly("held_lower", [](const IndexReport& r) { return r.stats.held_lower; })
      .def_property_readonly("waiting", [](const IndexReport& r) { return r.stats.waiting; })
      .def_property_readonly("pins", [](const IndexReport& r) { return r.stats.pins; })
      .def_property_readonly("nodes", [](const IndexReport& r) { return r.stats.nodes; })
      .def_property_readonly("bytes", [](const IndexReport& r) { return r.stats.bytes.total(); })
      .def_property_readonly("bytes_by_kind", &index_bytes)
      .def_property_readonly("forgotten",
                             [](const IndexReport& r) {
                               return r.stats.forgotten_exact + r.stats.forgotten_predicted;
                             })
      .def_property_readonly("counters", &index_counters);
}

void bind_target_stats(py::module_& module) {
  py::class_<TargetStats>(module, "TargetStats", py::is_final(), "One target's state.")
      .def_property_readonly("worker",
                             [](const TargetStats& t) { return to_python(t.target.worker); })
      .def_property_readonly("dp_rank", [](const TargetStats& t) { return t.target.dp_rank; })
      .def_property_readonly("active_requests",
                             [](const TargetStats& t) { return t.load.requests; })
      .def_property_readonly("active_prefill_tokens",
                             [](const TargetStats& t) { return t.load.prefill_tokens; })
      .def_property_readonly("active_blocks",
                             [](const TargetStats& t) { return t.load.active_blocks(); })
      .def_readonly("held_blocks", &TargetStats::held_blocks)
      .def_readonly("total_blocks", &TargetStats::total_blocks)
      .def_readonly("draining", &TargetStats::draining)
      .def_property_readonly("waiting",
                             [](const TargetStats& t) { return t.load.reported.waiting; })
      .def_property_readonly("running",
                             [](const TargetStats& t) { return t.load.reported.running; })
      .def_property_readonly("kv_usage",
                             [](const TargetStats& t) { return t.load.reported.kv_usage; })
      .def_readonly("load_age", &TargetStats::load_age_seconds)
      .def_readonly("first_token_seconds", &TargetStats::first_token_seconds)
      .def_property_readonly("selections", [](const TargetStats& t) { return t.load.selections; })
      .def_property_readonly("events", &event_counters);
}

std::vector<IndexReport> index_reports(const RouterStats& stats) {
  std::vector<IndexReport> reports;
  reports.reserve(stats.indexes.size());
  for (const IndexUse& use : stats.indexes) {
    reports.push_back({use.block_size, use.targets, use.memory_limit, use.stats});
  }
  return reports;
}

}  // namespace

void bind_stats(py::module_& module) {
  bind_index_stats(module);
  bind_target_stats(module);
  py::class_<RouterStats>(module, "RouterStats", py::is_final(), "State of a router.")
      .def_readonly("targets", &RouterStats::targets)
      .def_property_readonly("indexes", &index_reports)
      .def_readonly("reservations", &RouterStats::reservations)
      .def_readonly("expired_reservations", &RouterStats::expired_reservations)
      .def_readonly("selections", &RouterStats::selections)
      .def_readonly("policy_fallbacks", &RouterStats::policy_fallbacks);
}

}  // namespace kvroute::python
