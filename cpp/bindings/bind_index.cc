#include <limits>
#include <utility>
#include <vector>

#include "arguments.h"
#include "gil_release.h"
#include "index_face.h"
#include "integer_input.h"
#include "kvroute/base/error.h"
#include "memory_size.h"
#include "tier_name.h"
#include "worker_name.h"

namespace kvroute::python {
namespace {

IndexOptions options(std::optional<std::size_t> limit, py::handle repeated_stores,
                     py::handle max_waiting) {
  const auto repeated = text_or_none(repeated_stores, "repeated_stores").value_or("None");
  if (repeated != "count" && repeated != "set") {
    throw InvalidArgument("repeated_stores: expected 'count' or 'set', got '" +
                          std::string(repeated) + "'");
  }
  IndexOptions options;
  options.memory_limit = limit;
  options.count_copies = repeated == "count";
  options.max_waiting = static_cast<std::size_t>(
      integer(max_waiting, "max_waiting", 0, std::numeric_limits<std::int64_t>::max()));
  return options;
}

TargetId target_of(py::handle worker, py::handle dp_rank) {
  return {worker_name(worker, "worker"), unsigned_32(dp_rank, "dp_rank")};
}

std::uint64_t newly_held(const StoreResult& result) {
  return std::uint64_t{result.applied} + result.adopted;
}

}  // namespace

IndexFace::IndexFace(py::handle memory_limit, py::handle repeated_stores, py::handle max_waiting)
    : limit_(memory_size(memory_limit, "memory_limit")),
      index_(std::make_shared<PrefixIndex>(options(limit_, repeated_stores, max_waiting))) {}

IndexFace::~IndexFace() {
  if (!index_.is_home()) return;
  const GilRelease released;
  index_.reset();
}

PrefixIndex& IndexFace::use() const {
  if (index_.is_home()) return index_.get();
  throw Error("PrefixIndex: it was made before a fork; make one in this process");
}

std::uint64_t IndexFace::store(py::handle worker, py::handle engine_hashes, py::handle local_hashes,
                               py::handle parent, py::handle dp_rank, py::handle tier) {
  const TargetId target = target_of(worker, dp_rank);
  const HashInput engine(engine_hashes, "engine_hashes", Reading::copied);
  const HashInput local(local_hashes, "local_hashes", Reading::copied);
  const auto parent_hash = unsigned_64_or_none(parent, "parent");
  const Tier where = tier_of(tier, "tier");
  PrefixIndex& index = use();
  const GilRelease released;
  return newly_held(index.store(target, parent_hash, engine.values(), local.values(), where));
}

std::uint64_t IndexFace::store_known(py::handle worker, py::handle engine_hashes, py::handle tier,
                                     py::handle dp_rank) {
  const TargetId target = target_of(worker, dp_rank);
  const HashInput engine(engine_hashes, "engine_hashes", Reading::copied);
  const Tier where = tier_of(tier, "tier");
  PrefixIndex& index = use();
  const GilRelease released;
  return newly_held(index.store_known(target, engine.values(), where));
}

std::uint64_t IndexFace::remove(py::handle worker, py::handle engine_hashes, py::handle dp_rank,
                                py::handle tier) {
  const TargetId target = target_of(worker, dp_rank);
  const HashInput engine(engine_hashes, "engine_hashes", Reading::copied);
  const Tier where = tier_of(tier, "tier");
  PrefixIndex& index = use();
  const GilRelease released;
  return index.remove(target, engine.values(), where).removed;
}

void IndexFace::clear(py::handle worker, py::handle dp_rank) {
  const WorkerName name = worker_name(worker, "worker");
  const auto rank = unsigned_32_or_none(dp_rank, "dp_rank");
  PrefixIndex& index = use();
  const GilRelease released;
  index.clear(name, rank);
}

void IndexFace::remove_worker(py::handle worker) {
  const WorkerName name = worker_name(worker, "worker");
  PrefixIndex& index = use();
  const GilRelease released;
  index.remove_worker(name);
}

OverlapMapping IndexFace::match(py::handle local_hashes) const {
  const HashInput local(local_hashes, "local_hashes");
  const PrefixIndex& index = use();
  std::vector<std::pair<TargetId, std::uint32_t>> depths;
  {
    const GilRelease released;
    depths = index.match(local.values());
  }
  return OverlapMapping(depths);
}

py::tuple IndexFace::overlaps(py::handle local_hashes) const {
  const HashInput local(local_hashes, "local_hashes");
  const PrefixIndex& index = use();
  TargetDepths found;
  {
    const GilRelease released;
    found = index.overlaps(local.values());
  }
  py::list targets;
  for (const TargetId& target : found.targets) targets.append(to_python(target));
  py::tuple depths(kTiers);
  for (std::size_t tier = 0; tier < kTiers; ++tier) depths[tier] = to_array(found.depths[tier]);
  return py::make_tuple(std::move(targets), std::move(depths));
}

py::list IndexFace::targets() const {
  const PrefixIndex& index = use();
  std::vector<TargetId> ids;
  {
    const GilRelease released;
    ids = index.targets();
  }
  py::list targets;
  for (const TargetId& target : ids) targets.append(to_python(target));
  return targets;
}

IndexReport IndexFace::stats() const {
  const PrefixIndex& index = use();
  const GilRelease released;
  return {.block_size = 0,
          .targets = index.targets().size(),
          .memory_limit = limit_,
          .stats = index.stats()};
}

void bind_index(py::module_& module) {
  bind_overlaps(module);
  bind_apply_result(module);
  const auto none = py::none();
  py::class_<IndexFace>(module, "PrefixIndex", py::is_final(),
                        "What each target holds, by itself: of one block size, fed and asked in "
                        "hashes.")
      .def(py::init<py::handle, py::handle, py::handle>(), py::arg("memory_limit") = none,
           py::kw_only(), py::arg("repeated_stores") = "count",
           py::arg("max_waiting") = IndexOptions{}.max_waiting)
      .def("store", &IndexFace::store, py::arg("worker"), py::arg("engine_hashes"),
           py::arg("local_hashes"), py::arg("parent") = none, py::arg("dp_rank") = 0, py::kw_only(),
           py::arg("tier") = "device",
           "The target now holds these consecutive blocks; gives how many are new.")
      .def("store_known", &IndexFace::store_known, py::arg("worker"), py::arg("engine_hashes"),
           py::arg("tier"), py::arg("dp_rank") = 0,
           "Blocks that the target announced before are now held in a further tier too.")
      .def("remove", &IndexFace::remove, py::arg("worker"), py::arg("engine_hashes"),
           py::arg("dp_rank") = 0, py::kw_only(), py::arg("tier") = "device",
           "Gives the number of blocks no longer held.")
      .def("clear", &IndexFace::clear, py::arg("worker"), py::arg("dp_rank") = none,
           "Forgets all blocks of the worker, or of one of its ranks.")
      .def("remove_worker", &IndexFace::remove_worker, py::arg("worker"),
           "Forgets the worker and its targets.")
      .def("apply", &IndexFace::apply, py::arg("events"),
           "Many events by one call; gives what became of them.")
      .def("match", &IndexFace::match, py::arg("local_hashes"),
           "Reachable depth in blocks of each target that holds at least the first block.")
      .def("match_many", &IndexFace::match_many, py::arg("requests"), "One match a request.")
      .def("overlaps", &IndexFace::overlaps, py::arg("local_hashes"),
           "All targets, and for each tier their reachable depths as array('I').")
      .def("targets", &IndexFace::targets, "Targets that have stored blocks.")
      .def("dump", &IndexFace::dump, "Events that `apply` takes, giving what is held now.")
      .def("snapshot", &IndexFace::snapshot, "Everything that the index holds, as bytes.")
      .def("restore", &IndexFace::restore, py::arg("snapshot"),
           "Replaces everything by a snapshot's content.")
      .def("save", &IndexFace::save, py::arg("path"), "Writes a snapshot to a file.")
      .def("load", &IndexFace::load, py::arg("path"), "Restores the snapshot in a file.")
      .def("stats", &IndexFace::stats)
      .def("__reduce__", [](py::handle) -> py::object {
        throw py::type_error("PrefixIndex cannot be pickled: it has locks");
      });
}

}  // namespace kvroute::python
