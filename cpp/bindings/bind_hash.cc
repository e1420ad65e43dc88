#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "integer_input.h"
#include "kvroute/base/error.h"
#include "kvroute/hash/block_hash.h"
#include "namespace_arguments.h"
#include "pybind.h"

namespace kvroute::python {
namespace {

constexpr py::ssize_t kMaxBlockSize = 65'536;

py::object hash_token_ids(py::handle token_ids, py::ssize_t block_size, OptionalText lora,
                          OptionalText salt, OptionalText name_space) {
  if (block_size < 1 || block_size > kMaxBlockSize) {
    throw InvalidArgument("block_size: expected 1 to 65536 tokens, got " +
                          std::to_string(block_size));
  }
  const TokenIds tokens(token_ids, "token_ids");
  const std::uint64_t seed = namespace_seed(make_namespace(lora, salt, name_space));
  std::vector<std::uint64_t> hashes;
  {
    const py::gil_scoped_release released;
    hashes = hash_blocks(tokens.values(), static_cast<std::size_t>(block_size), seed);
  }
  return to_array(hashes);
}

py::object chain(py::handle local_hashes, OptionalText lora, OptionalText salt,
                 OptionalText name_space) {
  const HashInput local(local_hashes, "local_hashes");
  const std::uint64_t seed = namespace_seed(make_namespace(lora, salt, name_space));
  std::vector<std::uint64_t> chained(local.values().size());
  {
    const py::gil_scoped_release released;
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
