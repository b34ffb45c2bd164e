#include "server/formats/numpy_scalar.h"

#include <cstring>
#include <string>

#include "server/base/status.h"
#include "server/formats/little_endian.h"
#include "server/formats/utf8.h"

namespace featurescope {
namespace {

using Kind = PickleNode::Kind;

constexpr absl::string_view kScalar = "numpy.core.multiarray.scalar";
constexpr absl::string_view kNumpy2Scalar = "numpy._core.multiarray.scalar";
constexpr absl::string_view kDtype = "numpy.dtype";
constexpr absl::string_view kEncode = "_codecs.encode";
constexpr absl::string_view kGlobals[] = {kScalar, kNumpy2Scalar, kDtype, kEncode};

constexpr size_t kMaxScalarBytes = 64;  // more are cut off; no known type has so many

// Whether `node` calls `callee` with at least one argument, the first of them a string.
bool CallsWithText(const Pickle& pickle, const PickleNode& node, absl::string_view callee) {
  if (node.kind != Kind::kCall || pickle[node.children[0]].text != callee) return false;
  const std::vector<uint32_t>& arguments = pickle[node.children[1]].children;
  return !arguments.empty() && pickle[arguments[0]].kind == Kind::kText;
}

// numpy.dtype("f8", False, True), with its byte order in the second part of its state.
absl::StatusOr<std::string> ReadDtype(const Pickle& pickle, const PickleNode& node,
                                      absl::string_view where) {
  if (!CallsWithText(pickle, node, kDtype)) {
    return InvalidArgument(where, ": the dtype of a numpy scalar is not of a known form");
  }
  if (node.state != kNoPickleNode) {
    const PickleNode& state = pickle[node.state];
    if (state.kind != Kind::kTuple || state.children.size() < 2 ||
        (pickle[state.children[1]].text != "<" && pickle[state.children[1]].text != "|")) {
      return InvalidArgument(where, ": a numpy scalar is not little-endian");
    }
  }
  return pickle[pickle[node.children[1]].children[0]].text.substr(0, kMaxScalarBytes);
}

// Byte strings are written in protocol 2 as _codecs.encode(text, "latin1").
absl::StatusOr<std::string> ReadBytes(const Pickle& pickle, const PickleNode& node,
                                      absl::string_view where) {
  if (node.kind == Kind::kBytes) return node.text.substr(0, kMaxScalarBytes);
  if (!CallsWithText(pickle, node, kEncode) || pickle[node.children[1]].children.size() != 2 ||
      pickle[pickle[node.children[1]].children[1]].text != "latin1") {
    return InvalidArgument(where, ": the bytes of a numpy scalar are not of a known form");
  }
  absl::string_view text = pickle[pickle[node.children[1]].children[0]].text;
  std::string bytes;
  while (!text.empty() && bytes.size() < kMaxScalarBytes) {
    const int length = Utf8SequenceLength(text);
    const char32_t code_point = Utf8CodePoint(text, length);
    if (code_point > 0xFF) {
      return InvalidArgument(where, ": a byte string has a character that is no byte");
    }
    bytes.push_back(static_cast<char>(code_point));
    text.remove_prefix(static_cast<size_t>(length));
  }
  return bytes;
}

template <typename T>
double AsDouble(const std::string& bytes) {
  T value;
  std::memcpy(&value, bytes.data(), sizeof(value));
  return value;
}

}  // namespace

absl::Span<const absl::string_view> NumpyScalarGlobals() { return kGlobals; }

bool IsNumpyScalar(absl::string_view global) {
  return global == kScalar || global == kNumpy2Scalar;
}

absl::StatusOr<TorchValue> ReadNumpyScalar(const Pickle& pickle, const PickleNode& arguments,
                                           absl::string_view where) {
  if (arguments.children.size() != 2) {
    return InvalidArgument(where, ": a numpy scalar without dtype or bytes");
  }
  ASSIGN_OR_RETURN(const std::string dtype,
                   ReadDtype(pickle, pickle[arguments.children[0]], where));
  ASSIGN_OR_RETURN(const std::string bytes,
                   ReadBytes(pickle, pickle[arguments.children[1]], where));
  const auto is = [&](absl::string_view name, size_t size) {
    return dtype == name && bytes.size() == size;
  };
  if (is("f8", 8)) return TorchValue(AsDouble<double>(bytes));
  if (is("f4", 4)) return TorchValue(AsDouble<float>(bytes));
  if (is("i8", 8)) return TorchValue(LoadLe<int64_t>(bytes.data()));
  if (is("i4", 4)) return TorchValue(int64_t{LoadLe<int32_t>(bytes.data())});
  if (is("b1", 1)) return TorchValue(bytes[0] != 0);
  return InvalidArgument(where, ": a numpy scalar of dtype \"", PrintableUtf8(dtype, 20), "\" and ",
                         bytes.size(), " bytes; known are f8, f4, i8, i4 and b1");
}

}  // namespace featurescope
