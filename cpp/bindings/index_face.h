#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "index_report.h"
#include "kvroute/index/prefix_index.h"
#include "overlap_mapping.h"
#include "process_guard.h"
#include "pybind.h"

namespace kvroute::python {

/// kvroute.PrefixIndex: arguments checked and converted, the GIL released around the index's work.
/// Its methods are those of the stub.
class IndexFace {
 public:
  IndexFace(py::handle memory_limit, py::handle repeated_stores, py::handle max_waiting);
  ~IndexFace();
  IndexFace(const IndexFace&) = delete;
  IndexFace& operator=(const IndexFace&) = delete;

  // bind_index.cc
  std::uint64_t store(py::handle worker, py::handle engine_hashes, py::handle local_hashes,
                      py::handle parent, py::handle dp_rank, py::handle tier);
  std::uint64_t store_known(py::handle worker, py::handle engine_hashes, py::handle tier,
                            py::handle dp_rank);
  std::uint64_t remove(py::handle worker, py::handle engine_hashes, py::handle dp_rank,
                       py::handle tier);
  void clear(py::handle worker, py::handle dp_rank);
  void remove_worker(py::handle worker);
  [[nodiscard]] OverlapMapping match(py::handle local_hashes) const;
  [[nodiscard]] py::tuple overlaps(py::handle local_hashes) const;
  [[nodiscard]] py::list targets() const;
  [[nodiscard]] IndexReport stats() const;

  // bind_index_batch.cc
  ApplyResult apply(py::handle events);
  [[nodiscard]] py::list match_many(py::handle requests) const;
  [[nodiscard]] py::list dump() const;

  // bind_index_files.cc
  [[nodiscard]] py::bytes snapshot() const;
  void restore(py::handle snapshot);
  void save(py::handle path) const;
  void load(py::handle path);

 private:
  /// \throws Error in a forked child
  [[nodiscard]] PrefixIndex& use() const;

  std::optional<std::size_t> limit_;
  ProcessGuard<PrefixIndex> index_;
};

void bind_apply_result(py::module_& module);

}  // namespace kvroute::python
