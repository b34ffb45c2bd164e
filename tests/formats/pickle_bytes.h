// Pickles and torch.save files made by hand, whole or damaged on purpose.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "server/formats/little_endian.h"
#include "tests/formats/zip_bytes.h"

namespace featurescope {

// Bytes of a literal, NULs included.
template <size_t n>
std::string Bytes(const char (&literal)[n]) {
  return std::string(literal, n - 1);
}

// A whole pickle whose one value `opcodes` push.
inline std::string Pickled(const std::string& opcodes) { return "\x80\x02" + opcodes + "."; }

inline std::string PickledText(const std::string& text) {
  std::string out = "X";
  AppendLe(&out, static_cast<uint32_t>(text.size()));
  return out + text;
}

inline std::string PickledInt(int64_t value) {
  std::string out = "\x8a\x08";
  AppendLe(&out, value);
  return out;
}

inline std::string PickledTuple(const std::vector<int64_t>& values) {
  std::string out = "(";
  for (int64_t value : values) out += PickledInt(value);
  return out + "t";
}

inline std::string PickledDict(
    const std::vector<std::pair<std::string, std::string>>& keys_and_opcodes) {
  std::string out = "}(";
  for (const auto& [key, opcodes] : keys_and_opcodes) out += PickledText(key) + opcodes;
  return out + "u";
}

struct PickledStorage {
  std::string key = "0";
  int64_t n_elements = 6;
  std::string type = "torch\nFloatStorage";
};

// A persistent id.
inline std::string PickledId(const PickledStorage& storage) {
  return "(" + PickledText("storage") + "c" + storage.type + "\n" + PickledText(storage.key) +
         PickledText("cpu") + PickledInt(storage.n_elements) + "tQ";
}

inline std::string PickledTensor(const std::vector<int64_t>& shape,
                                 const std::vector<int64_t>& strides, int64_t offset = 0,
                                 const PickledStorage& storage = {}) {
  return "ctorch._utils\n_rebuild_tensor_v2\n(" + PickledId(storage) + PickledInt(offset) +
         PickledTuple(shape) + PickledTuple(strides) + "\x89" + "ccollections\nOrderedDict\n)RtR";
}

// A torch.save archive with this data.pkl, and the storage "0" of `data`.
inline std::vector<ZipPart> TorchParts(const std::string& opcodes,
                                       const std::string& data = std::string(24, '\0')) {
  return {{"x/data.pkl", Pickled(opcodes)},
          {"x/byteorder", "little"},
          {"x/data/0", data},
          {"x/version", "3\n"}};
}

}  // namespace featurescope
