#include <cstdint>
#include <vector>

#include "arguments.h"
#include "gil_release.h"
#include "integer_input.h"
#include "kvroute/hash/block_hash.h"
#include "pybind.h"

namespace kvroute::python {
namespace {

constexpr std::int64_t kMaxBlockSize = 65'536;

py::object hash_token_ids(py::handle token_ids, py::handle block_size, py::handle lora,
                          py::handle salt, py::handle name_space) {
  const auto size = static_cast<std::size_t>(integer(block_size, "block_size", 1, kMaxBlockSize));
  const TokenIds tokens(token_ids, "token_ids");
  const std::uint64_t seed = namespace_seed(namespace_of(lora, salt, name_space));
  std::vector<std::uint64_t> hashes;
  {
    const GilRelease released;
    hashes = hash_blocks(tokens.values(), size, seed);
  }
  return to_array(hashes);
}

py::object chain(py::handle local_hashes, py::handle lora, py::handle salt, py::handle name_space) {
  const HashInput local(local_hashes, "local_hashes");
  const std::uint64_t seed = namespace_seed(namespace_of(lora, salt, name_space));
  std::vector<std::uint64_t> chained(local.values().size());
  {
    const GilRelease released;
    sequence_hashes(local.values(), chained, seed);
  }
  return to_array(chained);
}

}  // namespace

void bind_hash(py::module_& module) {
  const auto none = py::none();
  module.def("hash_blocks", &hash_token_ids, py::arg("token_ids"), py::arg("block_size"),
             py::kw_only(), py::arg("lora") = none, py::arg("salt") = none,
             py::arg("namespace") = none,
             "Local hash of each full block, as array('Q'): XXH3-64, seed 1337, as Dynamo's.");
  module.def("sequence_hashes", &chain, py::arg("local_hashes"), py::kw_only(),
             py::arg("lora") = none, py::arg("salt") = none, py::arg("namespace") = none,
             "Chained hash of each block and all before it, as array('Q').");
}

}  // namespace kvroute::python
