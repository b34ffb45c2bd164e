#include "server/formats/npy_header.h"

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "server/base/status.h"
#include "server/formats/utf8.h"

namespace featurescope {
namespace {

struct TypeRow {
  absl::string_view descr;
  DType dtype;
};
constexpr TypeRow kTypes[] = {
    {"<f2", DType::kF16}, {"<f4", DType::kF32}, {"<f8", DType::kF64},
    {"<i2", DType::kI16}, {"<i4", DType::kI32}, {"<i8", DType::kI64},
    {"|i1", DType::kI8},  {"|u1", DType::kU8},  {"|b1", DType::kBool},
};

class HeaderParser {
 public:
  HeaderParser(absl::string_view text, absl::string_view where) : rest_(text), where_(where) {}

  absl::StatusOr<NpyHeader> Parse() {
    NpyHeader header;
    bool has_descr = false, has_order = false, has_shape = false;
    if (!Take('{')) return Bad("does not begin with '{'");
    while (!Take('}')) {
      ASSIGN_OR_RETURN(const absl::string_view key, TakeString());
      if (!Take(':')) return Bad("':' is missing");
      bool* seen = key == "descr"           ? &has_descr
                   : key == "fortran_order" ? &has_order
                   : key == "shape"         ? &has_shape
                                            : nullptr;
      if (seen == nullptr || *seen) {
        return Bad("unknown or repeated key \"", PrintableUtf8(key, 60), "\"");
      }
      *seen = true;
      if (seen == &has_descr) {
        ASSIGN_OR_RETURN(header.dtype, TakeType());
      } else if (seen == &has_order) {
        ASSIGN_OR_RETURN(header.fortran_order, TakeBool());
      } else {
        ASSIGN_OR_RETURN(header.shape, TakeShape());
      }
      if (!Take(',') && !Peek('}')) return Bad("',' or '}' is missing");
    }
    SkipSpace();
    if (!rest_.empty()) return Bad("text follows the dict");
    if (!has_descr || !has_order || !has_shape) {
      return Bad("descr, fortran_order or shape is missing");
    }
    return header;
  }

 private:
  template <typename... Args>
  absl::Status Bad(const Args&... args) const {
    return InvalidArgument(where_, ": bad .npy header: ", args...);
  }

  void SkipSpace() {
    while (!rest_.empty() && (rest_[0] == ' ' || rest_[0] == '\n')) rest_.remove_prefix(1);
  }
  bool Peek(char c) {
    SkipSpace();
    return !rest_.empty() && rest_[0] == c;
  }
  bool Take(char c) {
    if (!Peek(c)) return false;
    rest_.remove_prefix(1);
    return true;
  }
  bool TakeWord(absl::string_view word) {
    SkipSpace();
    if (rest_.substr(0, word.size()) != word) return false;
    rest_.remove_prefix(word.size());
    return true;
  }

  // A string without escapes.
  absl::StatusOr<absl::string_view> TakeString() {
    const char quote = Peek('"') ? '"' : '\'';
    if (!Take(quote)) return Bad("a string is missing");
    const size_t end = rest_.find(quote);
    if (end == absl::string_view::npos) return Bad("a string does not end");
    const absl::string_view text = rest_.substr(0, end);
    if (text.find('\\') != absl::string_view::npos) return Bad("a string has an escape");
    rest_.remove_prefix(end + 1);
    return text;
  }

  absl::StatusOr<DType> TakeType() {
    if (Peek('[') || Peek('(')) return Bad("structured arrays are not supported");
    ASSIGN_OR_RETURN(const absl::string_view descr, TakeString());
    for (const TypeRow& row : kTypes) {
      if (row.descr == descr) return row.dtype;
    }
    if (descr == "|O" || descr == "O") {
      return InvalidArgument(where_, ": is an object array, a Python pickle; it is not read");
    }
    return InvalidArgument(where_, ": dtype \"", PrintableUtf8(descr, 60), "\" is not supported",
                           descr.substr(0, 1) == ">" ? " (big-endian)" : "",
                           "; known are <f2, <f4, <f8, <i2, <i4, <i8, |i1, |u1 and |b1");
  }

  absl::StatusOr<bool> TakeBool() {
    if (TakeWord("True")) return true;
    if (TakeWord("False")) return false;
    return Bad("fortran_order is neither True nor False");
  }

  // "()", "(3,)", "(3, 4)"; Python 2 wrote numbers as 3L.
  absl::StatusOr<std::vector<int64_t>> TakeShape() {
    if (!Take('(')) return Bad("shape is no tuple");
    std::vector<int64_t> shape;
    bool comma = false;
    while (!Take(')')) {
      if (!shape.empty() && !comma) return Bad("shape is no tuple of integers");
      if (shape.size() == kMaxTensorDims) {
        return Bad("more than ", kMaxTensorDims, " dimensions");
      }
      ASSIGN_OR_RETURN(const int64_t dim, TakeDimension());
      shape.push_back(dim);
      comma = Take(',');
    }
    if (shape.size() == 1 && !comma) return Bad("shape is no tuple but a number");
    return shape;
  }

  absl::StatusOr<int64_t> TakeDimension() {
    SkipSpace();
    size_t digits = 0;
    while (digits < rest_.size() && absl::ascii_isdigit(rest_[digits])) ++digits;
    int64_t dim = 0;
    if (digits == 0 || !absl::SimpleAtoi(rest_.substr(0, digits), &dim)) {
      return Bad("a dimension is no integer in [0, 2^63)");
    }
    rest_.remove_prefix(digits);
    if (rest_.substr(0, 1) == "L") rest_.remove_prefix(1);
    return dim;
  }

  absl::string_view rest_;
  const absl::string_view where_;
};

}  // namespace

absl::StatusOr<NpyHeader> ParseNpyHeader(absl::string_view text, absl::string_view where) {
  return HeaderParser(text, where).Parse();
}

}  // namespace featurescope
