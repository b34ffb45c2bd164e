#include "server/formats/torch_value.h"

namespace featurescope {

int64_t TorchTensor::n_elements() const {
  int64_t n = 1;
  for (int64_t dim : shape) n *= dim;
  return n;
}

bool TorchTensor::is_contiguous() const {
  if (n_elements() == 0) return true;
  int64_t expected = 1;
  for (size_t i = shape.size(); i-- > 0;) {
    if (shape[i] == 1) continue;
    if (strides[i] != expected) return false;
    expected *= shape[i];
  }
  return true;
}

const std::vector<TorchValue>* TorchValue::AsSequence() const {
  if (const List* list = std::get_if<List>(&value_)) return &list->items;
  if (const Tuple* tuple = std::get_if<Tuple>(&value_)) return &tuple->items;
  return nullptr;
}

const TorchValue* TorchValue::Find(absl::string_view key) const {
  const Dict* dict = AsDict();
  if (dict == nullptr) return nullptr;
  for (size_t i = 0; i < dict->keys.size(); ++i) {
    const std::string* text = dict->keys[i].AsString();
    if (text != nullptr && *text == key) return &dict->values[i];
  }
  return nullptr;
}

const TorchTensor* TorchValue::FindTensor(absl::string_view key) const {
  const TorchValue* value = Find(key);
  return value == nullptr ? nullptr : value->AsTensor();
}

absl::string_view TorchValue::KindName() const {
  constexpr absl::string_view kNames[] = {"null",   "a bool",  "an int", "a float", "a string",
                                          "a list", "a tuple", "a dict", "a tensor"};
  static_assert(std::size(kNames) == std::variant_size_v<Variant>);
  return kNames[value_.index()];
}

}  // namespace featurescope
