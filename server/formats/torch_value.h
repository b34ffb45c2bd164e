// What a torch.save file holds, as a tree: plain Python values, with tensors as leaves.
//
// Tensors are views of storages, which stay in the file (see torch_file.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/string_view.h"
#include "server/formats/safetensors.h"

namespace featurescope {

// Elements in a row, little-endian; tensors are views of it.
struct TorchStorage {
  std::string key;  // its name in the file
  DType dtype = DType::kF32;
  uint64_t n_elements = 0;
  uint64_t bytes = 0;
  uint64_t file_offset = 0;
  bool has_crc32 = false;  // the legacy container has no check sums
  uint32_t crc32 = 0;
};

// A strided view of a storage. Checked when the file was opened: every element lies inside the
// storage, and there are no more elements than the storage has.
struct TorchTensor {
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;    // empty: a scalar
  std::vector<int64_t> strides;  // elements, >= 0; as many as dimensions
  int64_t offset = 0;            // elements, of the first one in the storage
  size_t storage = 0;            // index in TorchFile::storages(); several tensors may share one

  int64_t n_elements() const;
  // Row-major without gaps.
  bool is_contiguous() const;
};

// One value of the tree. Values that Python shares are copies here.
class TorchValue {
 public:
  struct List {
    std::vector<TorchValue> items;
  };
  struct Tuple {
    std::vector<TorchValue> items;
  };
  // values[i] belongs to keys[i]; in the order of the file. A key is null, bool, int, float, string
  // or a tuple of those, and occurs once.
  struct Dict {
    std::vector<TorchValue> keys;
    std::vector<TorchValue> values;
  };
  using Variant = std::variant<std::monostate, bool, int64_t, double, std::string, List, Tuple,
                               Dict, TorchTensor>;

  TorchValue() = default;  // null
  explicit TorchValue(Variant value) : value_(std::move(value)) {}

  bool is_null() const { return std::holds_alternative<std::monostate>(value_); }
  bool is_dict() const { return std::holds_alternative<Dict>(value_); }
  bool is_tensor() const { return std::holds_alternative<TorchTensor>(value_); }

  // nullptr when the value is of another kind. An int is no float, a bool is no int.
  const bool* AsBool() const { return std::get_if<bool>(&value_); }
  const int64_t* AsInt() const { return std::get_if<int64_t>(&value_); }
  const double* AsFloat() const { return std::get_if<double>(&value_); }
  // Also dtypes ("torch.float32") and devices ("cuda:0"). UTF-8.
  const std::string* AsString() const { return std::get_if<std::string>(&value_); }
  const TorchTensor* AsTensor() const { return std::get_if<TorchTensor>(&value_); }
  // The items of a list or tuple.
  const std::vector<TorchValue>* AsSequence() const;
  // Also an OrderedDict.
  const Dict* AsDict() const { return std::get_if<Dict>(&value_); }

  // The value of a string key; nullptr when this is no dict or has no such key.
  const TorchValue* Find(absl::string_view key) const;
  // The tensor under a string key; nullptr as above, or when the value is no tensor.
  const TorchTensor* FindTensor(absl::string_view key) const;

  // For messages: "null", "a bool", "an int", "a float", "a string", "a list", "a tuple", "a dict",
  // "a tensor".
  absl::string_view KindName() const;
  const Variant& variant() const { return value_; }

 private:
  Variant value_;
};

}  // namespace featurescope
