#include "server/formats/torch_pickle.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/base/status.h"
#include "server/formats/numpy_scalar.h"
#include "server/formats/tensor_shape.h"
#include "server/formats/torch_file.h"
#include "server/formats/utf8.h"

namespace featurescope {
namespace {

using Kind = PickleNode::Kind;

constexpr size_t kMaxShownKeyBytes = 100;

struct StorageRow {
  absl::string_view global;
  DType dtype;
};
constexpr StorageRow kStorages[] = {
    {"torch.DoubleStorage", DType::kF64}, {"torch.FloatStorage", DType::kF32},
    {"torch.HalfStorage", DType::kF16},   {"torch.BFloat16Storage", DType::kBF16},
    {"torch.LongStorage", DType::kI64},   {"torch.IntStorage", DType::kI32},
    {"torch.ShortStorage", DType::kI16},  {"torch.CharStorage", DType::kI8},
    {"torch.ByteStorage", DType::kU8},    {"torch.BoolStorage", DType::kBool},
};

constexpr absl::string_view kOrderedDict = "collections.OrderedDict";
constexpr absl::string_view kRebuildTensor = "torch._utils._rebuild_tensor";
constexpr absl::string_view kRebuildTensorV2 = "torch._utils._rebuild_tensor_v2";
constexpr absl::string_view kRebuildParameter = "torch._utils._rebuild_parameter";
constexpr absl::string_view kRebuildParameterWithState =
    "torch._utils._rebuild_parameter_with_state";
constexpr absl::string_view kRebuildFromType = "torch._tensor._rebuild_from_type_v2";
constexpr absl::string_view kSize = "torch.Size";
constexpr absl::string_view kDevice = "torch.device";

constexpr absl::string_view kDtypes[] = {
    "torch.float64", "torch.float32", "torch.float16", "torch.bfloat16", "torch.int64",
    "torch.int32",   "torch.int16",   "torch.int8",    "torch.uint8",    "torch.bool",
};
constexpr absl::string_view kOtherGlobals[] = {
    kOrderedDict,
    kRebuildTensor,
    kRebuildTensorV2,
    kRebuildParameter,
    kRebuildParameterWithState,
    kRebuildFromType,
    kSize,
    kDevice,
    "torch.Tensor",                  // the type argument of _rebuild_from_type_v2
    "torch.nn.parameter.Parameter",  // the same
};

class TreeReader {
 public:
  TreeReader(const Pickle& pickle, absl::string_view where) : pickle_(pickle), where_(where) {}

  absl::StatusOr<TorchTree> Read() {
    ASSIGN_OR_RETURN(tree_.root, Value(pickle_.root, 0));
    return std::move(tree_);
  }

 private:
  template <typename... Args>
  absl::Status Bad(const Args&... args) const {
    return InvalidArgument(Place(), ": ", args...);
  }
  // The file and the keys that lead to the current value.
  std::string Place() const {
    if (path_.empty()) return std::string(where_);
    return absl::StrCat(where_, ": \"", PrintableUtf8(absl::StrJoin(path_, "/")), "\"");
  }

  absl::StatusOr<TorchValue> Value(uint32_t index, int depth) {
    if (depth > kMaxTorchDepth) {
      return Bad("nested deeper than ", kMaxTorchDepth, " levels, or within itself");
    }
    if (++n_values_ > kMaxTorchValues) return Bad("more than ", kMaxTorchValues, " values");
    const PickleNode& node = pickle_[index];
    switch (node.kind) {
      case Kind::kNone:
        return TorchValue();
      case Kind::kBool:
        return TorchValue(node.integer != 0);
      case Kind::kInt:
        return TorchValue(node.integer);
      case Kind::kFloat:
        return TorchValue(node.real);
      case Kind::kText:
        return Text(node.text);
      case Kind::kList: {
        ASSIGN_OR_RETURN(std::vector<TorchValue> items, Items(node, depth));
        return TorchValue(TorchValue::List{std::move(items)});
      }
      case Kind::kTuple: {
        ASSIGN_OR_RETURN(std::vector<TorchValue> items, Items(node, depth));
        return TorchValue(TorchValue::Tuple{std::move(items)});
      }
      case Kind::kDict:
        return Dict(node.children, depth);
      case Kind::kGlobal:
        if (std::find(std::begin(kDtypes), std::end(kDtypes), node.text) != std::end(kDtypes)) {
          return Text(node.text);
        }
        return Bad(node.text, " is used as a value");
      case Kind::kCall:
        return Call(node, depth);
      case Kind::kLong:
        return Bad("an integer of more than 64 bits");
      case Kind::kBytes:
        return Bad("byte strings are not supported");
      case Kind::kPersistent:
        return Bad("a storage without a tensor");
    }
    return Bad("a value of an unknown kind");
  }

  absl::StatusOr<TorchValue> Text(const std::string& text) {
    text_bytes_ += text.size();
    if (text_bytes_ > kMaxTorchStringBytes) {
      return Bad("strings of more than ", kMaxTorchStringBytes, " bytes");
    }
    return TorchValue(text);
  }

  absl::StatusOr<std::vector<TorchValue>> Items(const PickleNode& node, int depth) {
    std::vector<TorchValue> items;
    for (uint32_t child : node.children) {
      ASSIGN_OR_RETURN(TorchValue item, Value(child, depth + 1));
      items.push_back(std::move(item));
    }
    return items;
  }

  // `pairs`: key, value, key, value ...
  absl::StatusOr<TorchValue> Dict(absl::Span<const uint32_t> pairs, int depth) {
    TorchValue::Dict dict;
    absl::flat_hash_set<std::string> seen;
    for (size_t i = 0; i + 1 < pairs.size(); i += 2) {
      ASSIGN_OR_RETURN(TorchValue key, Value(pairs[i], depth + 1));
      ASSIGN_OR_RETURN(std::string key_text, KeyText(key));
      path_.push_back(key_text.substr(0, kMaxShownKeyBytes));
      if (!seen.insert(absl::StrCat(key.KindName(), key_text)).second) {
        return Bad("the key occurs twice");
      }
      ASSIGN_OR_RETURN(TorchValue value, Value(pairs[i + 1], depth + 1));
      path_.pop_back();
      dict.keys.push_back(std::move(key));
      dict.values.push_back(std::move(value));
    }
    return TorchValue(std::move(dict));
  }

  absl::StatusOr<std::string> KeyText(const TorchValue& key) const {
    if (const std::string* text = key.AsString()) return *text;
    if (const int64_t* number = key.AsInt()) return absl::StrCat(*number);
    if (const double* number = key.AsFloat()) return absl::StrCat(*number);
    if (const bool* flag = key.AsBool()) return std::string(*flag ? "True" : "False");
    if (key.is_null()) return std::string("None");
    const auto* tuple = std::get_if<TorchValue::Tuple>(&key.variant());
    if (tuple == nullptr) return Bad("the key of a dict is ", key.KindName());
    std::string text = "(";
    for (const TorchValue& item : tuple->items) {
      ASSIGN_OR_RETURN(const std::string part, KeyText(item));
      absl::StrAppend(&text, item.KindName(), " ", part.size(), " ", part, ",");
    }
    return text + ")";
  }

  const std::string& Callee(const PickleNode& call) const { return pickle_[call.children[0]].text; }
  const PickleNode& Arguments(const PickleNode& call) const { return pickle_[call.children[1]]; }
  // What was set on the result: key, value, key, value ...
  static absl::Span<const uint32_t> Pairs(const PickleNode& call) {
    return absl::MakeConstSpan(call.children).subspan(2);
  }

  absl::StatusOr<TorchValue> Call(const PickleNode& call, int depth) {
    const std::string& callee = Callee(call);
    const PickleNode& arguments = Arguments(call);
    if (callee == kOrderedDict) return OrderedDict(call, depth);
    if (!Pairs(call).empty()) return Bad("keys are set on the result of ", callee);
    if (IsNumpyScalar(callee)) return ReadNumpyScalar(pickle_, arguments, Place());
    if (callee == kDevice) return Device(arguments);
    if (callee == kSize) {
      if (arguments.children.size() != 1) return Bad(callee, " takes one tuple");
      ASSIGN_OR_RETURN(std::vector<int64_t> dims, Integers(arguments.children[0], "a torch.Size"));
      TorchValue::Tuple tuple;
      for (int64_t dim : dims) tuple.items.emplace_back(dim);
      return TorchValue(std::move(tuple));
    }
    return Tensor(callee, arguments, depth);
  }

  // Its attributes (the _metadata of a state_dict) say nothing about the weights.
  absl::StatusOr<TorchValue> OrderedDict(const PickleNode& call, int depth) {
    const PickleNode& arguments = Arguments(call);
    if (arguments.children.empty()) return Dict(Pairs(call), depth);
    // OrderedDict([[key, value], ...]), as Python 2 wrote it.
    std::vector<uint32_t> pairs;
    if (arguments.children.size() == 1 && pickle_[arguments.children[0]].kind == Kind::kList) {
      for (uint32_t child : pickle_[arguments.children[0]].children) {
        const PickleNode& pair = pickle_[child];
        if ((pair.kind != Kind::kList && pair.kind != Kind::kTuple) || pair.children.size() != 2) {
          return Bad("an item of an OrderedDict is no pair");
        }
        pairs.insert(pairs.end(), pair.children.begin(), pair.children.end());
      }
      pairs.insert(pairs.end(), Pairs(call).begin(), Pairs(call).end());
      return Dict(pairs, depth);
    }
    return Bad("an OrderedDict is made from what is no list of pairs");
  }

  absl::StatusOr<TorchValue> Device(const PickleNode& arguments) {
    const std::vector<uint32_t>& parts = arguments.children;
    if (parts.empty() || parts.size() > 2 || pickle_[parts[0]].kind != Kind::kText ||
        (parts.size() == 2 && pickle_[parts[1]].kind != Kind::kInt)) {
      return Bad("bad arguments of ", kDevice);
    }
    std::string device = pickle_[parts[0]].text;
    if (parts.size() == 2) absl::StrAppend(&device, ":", pickle_[parts[1]].integer);
    return Text(device);
  }

  absl::StatusOr<TorchValue> Tensor(const std::string& callee, const PickleNode& arguments,
                                    int depth) {
    const std::vector<uint32_t>& parts = arguments.children;
    const auto is_call = [&](size_t i) {
      return i < parts.size() && pickle_[parts[i]].kind == Kind::kCall;
    };
    if ((callee == kRebuildParameter || callee == kRebuildParameterWithState) && is_call(0)) {
      return Value(parts[0], depth + 1);  // the tensor in it
    }
    // (function, type, its arguments, attributes)
    if (callee == kRebuildFromType && parts.size() == 4 &&
        pickle_[parts[0]].kind == Kind::kGlobal && pickle_[parts[2]].kind == Kind::kTuple) {
      if (depth > kMaxTorchDepth) return Bad("nested deeper than ", kMaxTorchDepth, " levels");
      return Tensor(pickle_[parts[0]].text, pickle_[parts[2]], depth + 1);
    }
    // (storage, offset, shape, strides, requires_grad, backward_hooks, metadata)
    const bool v2 = callee == kRebuildTensorV2 && parts.size() >= 6 && parts.size() <= 7;
    if (!v2 && !(callee == kRebuildTensor && parts.size() == 4)) {
      return Bad(callee, " is called with ", parts.size(), " arguments that do not fit it");
    }
    TorchTensor tensor;
    ASSIGN_OR_RETURN(tensor.storage, Storage(parts[0]));
    tensor.dtype = tree_.storages[tensor.storage].dtype;
    const PickleNode& offset = pickle_[parts[1]];
    if (offset.kind != Kind::kInt) return Bad("the offset of a tensor is no integer");
    tensor.offset = offset.integer;
    ASSIGN_OR_RETURN(tensor.shape, Integers(parts[2], "the shape of a tensor"));
    ASSIGN_OR_RETURN(tensor.strides, Integers(parts[3], "the strides of a tensor"));
    RETURN_IF_ERROR(CheckInside(tensor));
    return TorchValue(std::move(tensor));
  }

  absl::StatusOr<std::vector<int64_t>> Integers(uint32_t index, absl::string_view what) const {
    const PickleNode* node = &pickle_[index];
    if (node->kind == Kind::kCall && Callee(*node) == kSize &&
        Arguments(*node).children.size() == 1) {
      node = &pickle_[Arguments(*node).children[0]];
    }
    if (node->kind != Kind::kTuple && node->kind != Kind::kList) return Bad(what, " is no tuple");
    if (node->children.size() > kMaxTensorDims) {
      return Bad(what, " has ", node->children.size(), " numbers, at most ", kMaxTensorDims,
                 " are allowed");
    }
    std::vector<int64_t> integers;
    for (uint32_t child : node->children) {
      if (pickle_[child].kind != Kind::kInt || pickle_[child].integer < 0) {
        return Bad(what, " has what is no integer >= 0");
      }
      integers.push_back(pickle_[child].integer);
    }
    return integers;
  }

  absl::Status CheckInside(const TorchTensor& tensor) const {
    const TorchStorage& storage = tree_.storages[tensor.storage];
    const std::string view =
        absl::StrCat("a tensor of shape ", ShapeText(tensor.shape), ", strides ",
                     ShapeText(tensor.strides), " and offset ", tensor.offset);
    if (tensor.strides.size() != tensor.shape.size() || tensor.offset < 0) {
      return Bad("bad tensor: ", view);
    }
    ASSIGN_OR_RETURN(const uint64_t bytes, CheckedTensorBytes(tensor.dtype, tensor.shape, where_));
    int64_t last = tensor.offset;
    bool overflow = false;
    for (size_t i = 0; i < tensor.shape.size() && bytes > 0; ++i) {
      int64_t span = 0;
      overflow |= __builtin_mul_overflow(tensor.shape[i] - 1, tensor.strides[i], &span) ||
                  __builtin_add_overflow(last, span, &last);
    }
    const uint64_t end = static_cast<uint64_t>(last) + (bytes > 0 ? 1 : 0);
    if (overflow || end > storage.n_elements) {
      return Bad(view, " leaves its storage of ", storage.n_elements, " elements");
    }
    // Broadcast views would let a small file hold an endless tensor.
    if (bytes > storage.bytes) {
      return Bad(view, " repeats elements: its storage has only ", storage.n_elements);
    }
    return absl::OkStatus();
  }

  // ("storage", its type, its key, its device, its size[, None])
  absl::StatusOr<size_t> Storage(uint32_t index) {
    const PickleNode& persistent = pickle_[index];
    if (persistent.kind != Kind::kPersistent) return Bad("a tensor without a storage");
    const PickleNode& id = pickle_[persistent.children[0]];
    const std::vector<uint32_t>& parts = id.children;
    constexpr Kind kKinds[] = {Kind::kText, Kind::kGlobal, Kind::kText,
                               Kind::kText, Kind::kInt,    Kind::kNone};
    bool fits = id.kind == Kind::kTuple && (parts.size() == 5 || parts.size() == 6);
    for (size_t i = 0; fits && i < parts.size(); ++i) fits = pickle_[parts[i]].kind == kKinds[i];
    if (!fits || pickle_[parts[0]].text != "storage" ||
        pickle_[parts[2]].text.size() > kMaxTensorNameBytes) {
      return Bad("a storage's description is not of a known form");
    }
    TorchStorage storage;
    storage.key = pickle_[parts[2]].text;
    ASSIGN_OR_RETURN(storage.dtype, StorageDtype(pickle_[parts[1]].text));
    const std::string where =
        absl::StrCat(where_, ": storage \"", PrintableUtf8(storage.key, 100), "\"");
    const int64_t n = pickle_[parts[4]].integer;
    ASSIGN_OR_RETURN(storage.bytes, CheckedTensorBytes(storage.dtype, {n}, where));
    storage.n_elements = static_cast<uint64_t>(n);
    const auto [place, inserted] = storage_by_key_.emplace(storage.key, tree_.storages.size());
    if (inserted) {
      if (tree_.storages.size() >= kMaxTorchStorages) {
        return Bad("more than ", kMaxTorchStorages, " storages");
      }
      tree_.storages.push_back(std::move(storage));
      return place->second;
    }
    const TorchStorage& known = tree_.storages[place->second];
    if (known.dtype != storage.dtype || known.n_elements != storage.n_elements) {
      return InvalidArgument(where, ": is described in two ways");
    }
    return place->second;
  }

  absl::StatusOr<DType> StorageDtype(const std::string& global) const {
    for (const StorageRow& row : kStorages) {
      if (row.global == global) return row.dtype;
    }
    return Bad(global, " is no type of a storage");
  }

  const Pickle& pickle_;
  const absl::string_view where_;
  TorchTree tree_;
  absl::flat_hash_map<std::string, size_t> storage_by_key_;
  std::vector<std::string> path_;  // keys that lead to the current value
  size_t n_values_ = 0;
  size_t text_bytes_ = 0;
};

}  // namespace

absl::Span<const absl::string_view> TorchGlobals() {
  static const auto* globals = [] {
    auto* list =
        new std::vector<absl::string_view>(std::begin(kOtherGlobals), std::end(kOtherGlobals));
    for (const StorageRow& row : kStorages) list->push_back(row.global);
    list->insert(list->end(), NumpyScalarGlobals().begin(), NumpyScalarGlobals().end());
    list->insert(list->end(), std::begin(kDtypes), std::end(kDtypes));
    return list;
  }();
  return *globals;
}

absl::string_view TorchStorageGlobal(DType dtype) {
  for (const StorageRow& row : kStorages) {
    if (row.dtype == dtype) return row.global;
  }
  return "";
}

absl::StatusOr<TorchTree> ReadTorchTree(const Pickle& pickle, absl::string_view where) {
  return TreeReader(pickle, where).Read();
}

}  // namespace featurescope
