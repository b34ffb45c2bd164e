#include "server/formats/pickle.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/formats/little_endian.h"
#include "server/formats/utf8.h"

namespace featurescope {
namespace {

using Kind = PickleNode::Kind;

constexpr size_t kMaxGlobalBytes = 256;
constexpr size_t kMaxOpenMarks = 4096;

// As Python's pickletools names them.
enum Opcode : uint8_t {
  kMark = '(',
  kStop = '.',
  kNone = 'N',
  kNewTrue = 0x88,
  kNewFalse = 0x89,
  kBinInt = 'J',
  kBinInt1 = 'K',
  kBinInt2 = 'M',
  kLong1 = 0x8a,
  kLong4 = 0x8b,
  kBinFloat = 'G',
  kBinString = 'T',
  kShortBinString = 'U',
  kBinUnicode = 'X',
  kShortBinUnicode = 0x8c,
  kBinUnicode8 = 0x8d,
  kBinBytes = 'B',
  kShortBinBytes = 'C',
  kBinBytes8 = 0x8e,
  kEmptyTuple = ')',
  kTuple = 't',
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kEmptyList = ']',
  kAppend = 'a',
  kAppends = 'e',
  kEmptyDict = '}',
  kSetItem = 's',
  kSetItems = 'u',
  kGlobal = 'c',
  kStackGlobal = 0x93,
  kReduce = 'R',
  kNewObj = 0x81,
  kBuild = 'b',
  kBinPersId = 'Q',
  kBinGet = 'h',
  kLongBinGet = 'j',
  kBinPut = 'q',
  kLongBinPut = 'r',
  kMemoize = 0x94,
  kProto = 0x80,
  kFrame = 0x95,
};

class Machine {
 public:
  Machine(absl::string_view bytes, absl::string_view where,
          absl::Span<const absl::string_view> allowed_globals)
      : bytes_(bytes), where_(where), allowed_globals_(allowed_globals) {}

  absl::StatusOr<Pickle> Run() {
    while (true) {
      opcode_at_ = at_;
      ASSIGN_OR_RETURN(const uint8_t opcode, TakeLe<uint8_t>());
      if (opcode_at_ == 0 && opcode != kProto) return Bad("it does not begin with PROTO");
      if (opcode == kStop) break;
      RETURN_IF_ERROR(Execute(opcode));
    }
    if (stack_.size() != 1 || !marks_.empty()) return Bad("it does not end with one value");
    pickle_.root = stack_[0];
    pickle_.bytes = at_;
    return std::move(pickle_);
  }

 private:
  template <typename... Args>
  absl::Status Bad(const Args&... args) const {
    return InvalidArgument(where_, ": bad pickle: byte ", opcode_at_, ": ", args...);
  }

  absl::Status Execute(uint8_t opcode) {
    switch (opcode) {
      case kProto:
        return Proto();
      case kFrame:
        return Take(8).status();  // its length; nothing depends on it
      case kMark:
        if (marks_.size() >= kMaxOpenMarks) return Bad("more than ", kMaxOpenMarks, " open marks");
        marks_.push_back(stack_.size());
        return absl::OkStatus();
      case kBinGet:
      case kLongBinGet:
      case kBinPut:
      case kLongBinPut:
      case kMemoize:
        return Memo(opcode);
      case kEmptyTuple:
      case kTuple:
      case kTuple1:
      case kTuple2:
      case kTuple3:
        return Tuple(opcode);
      case kEmptyList:
        return Push(Kind::kList);
      case kEmptyDict:
        return Push(Kind::kDict);
      case kAppend:
      case kAppends:
        return Append(opcode == kAppends);
      case kSetItem:
      case kSetItems:
        return SetItems(opcode == kSetItems);
      case kGlobal:
      case kStackGlobal:
        return Global(opcode);
      case kReduce:
      case kNewObj:
        return Call();
      case kBuild:
        return Build();
      case kBinPersId:
        return PersistentId();
      default:
        return Scalar(opcode);
    }
  }

  absl::Status Scalar(uint8_t opcode) {
    switch (opcode) {
      case kNone:
        return Push(Kind::kNone);
      case kNewTrue:
      case kNewFalse:
        return PushInt(Kind::kBool, opcode == kNewTrue);
      case kBinInt:
        return PushTaken<int32_t>();
      case kBinInt1:
        return PushTaken<uint8_t>();
      case kBinInt2:
        return PushTaken<uint16_t>();
      case kLong1:
        return Long<uint8_t>();
      case kLong4:
        return Long<uint32_t>();
      case kBinFloat:
        return Float();
      case kBinUnicode:
      case kBinString:
        return String<uint32_t>(Kind::kText);
      case kShortBinUnicode:
      case kShortBinString:
        return String<uint8_t>(Kind::kText);
      case kBinUnicode8:
        return String<uint64_t>(Kind::kText);
      case kBinBytes:
        return String<uint32_t>(Kind::kBytes);
      case kShortBinBytes:
        return String<uint8_t>(Kind::kBytes);
      case kBinBytes8:
        return String<uint64_t>(Kind::kBytes);
      default:
        return Bad(
            "opcode 0x",
            absl::BytesToHexString(absl::string_view(reinterpret_cast<const char*>(&opcode), 1)),
            " is not allowed");
    }
  }

  // The next `n` bytes.
  absl::StatusOr<absl::string_view> Take(uint64_t n) {
    if (n > bytes_.size() - at_) {
      return Bad("it ends after ", bytes_.size(), " bytes, ", n, " more were expected at byte ",
                 at_);
    }
    at_ += n;
    return bytes_.substr(at_ - n, n);
  }
  template <typename T>
  absl::StatusOr<T> TakeLe() {
    ASSIGN_OR_RETURN(const absl::string_view bytes, Take(sizeof(T)));
    return LoadLe<T>(bytes.data());
  }
  absl::StatusOr<absl::string_view> TakeLine() {
    const size_t end = bytes_.substr(at_, kMaxGlobalBytes).find('\n');
    if (end == absl::string_view::npos) {
      return Bad("a name of more than ", kMaxGlobalBytes, " bytes");
    }
    const absl::string_view line = bytes_.substr(at_, end);
    at_ += end + 1;
    return line;
  }

  absl::StatusOr<uint32_t> NewNode(Kind kind) {
    if (pickle_.nodes.size() >= kMaxPickleNodes) {
      return Bad("more than ", kMaxPickleNodes, " values");
    }
    pickle_.nodes.emplace_back().kind = kind;
    return static_cast<uint32_t>(pickle_.nodes.size() - 1);
  }
  absl::Status Push(Kind kind) {
    ASSIGN_OR_RETURN(const uint32_t node, NewNode(kind));
    stack_.push_back(node);
    return absl::OkStatus();
  }
  PickleNode& Top() { return pickle_.nodes[stack_.back()]; }

  // Pushing a value may look at nothing below the latest mark, nor may taking one.
  size_t Available() const { return stack_.size() - (marks_.empty() ? 0 : marks_.back()); }
  absl::Status Need(size_t n) const {
    if (Available() < n) return Bad("the stack has ", Available(), " values, ", n, " are needed");
    return absl::OkStatus();
  }
  // Where the values of the latest mark begin; ends the mark.
  absl::StatusOr<size_t> TakeMark() {
    if (marks_.empty()) return Bad("there is no mark");
    const size_t begin = marks_.back();
    marks_.pop_back();
    return begin;
  }

  absl::Status PushInt(Kind kind, int64_t value) {
    RETURN_IF_ERROR(Push(kind));
    Top().integer = value;
    return absl::OkStatus();
  }
  template <typename T>
  absl::Status PushTaken() {
    ASSIGN_OR_RETURN(const T value, TakeLe<T>());
    return PushInt(Kind::kInt, value);
  }

  template <typename Length>
  absl::Status Long() {
    ASSIGN_OR_RETURN(const Length length, TakeLe<Length>());
    if (length > 255) return Bad("an integer of ", length, " bytes, at most 255 are allowed");
    ASSIGN_OR_RETURN(const absl::string_view bytes, Take(length));
    if (bytes.size() > 8) {
      RETURN_IF_ERROR(Push(Kind::kLong));
      Top().text = std::string(bytes);
      return absl::OkStatus();
    }
    const bool negative = !bytes.empty() && (bytes.back() & 0x80) != 0;
    uint64_t value = negative ? ~uint64_t{0} : 0;
    std::memcpy(&value, bytes.data(), bytes.size());
    return PushInt(Kind::kInt, static_cast<int64_t>(value));
  }

  absl::Status Float() {
    ASSIGN_OR_RETURN(const uint64_t big_endian, TakeLe<uint64_t>());
    const uint64_t bits = __builtin_bswap64(big_endian);
    RETURN_IF_ERROR(Push(Kind::kFloat));
    std::memcpy(&Top().real, &bits, sizeof(bits));
    return absl::OkStatus();
  }

  template <typename Length>
  absl::Status String(Kind kind) {
    ASSIGN_OR_RETURN(const Length length, TakeLe<Length>());
    ASSIGN_OR_RETURN(const absl::string_view text, Take(length));
    if (kind == Kind::kText && ValidUtf8Prefix(text) != text.size()) {
      return Bad("a string is no UTF-8: ", PrintableUtf8(text, 60));
    }
    RETURN_IF_ERROR(Push(kind));
    Top().text = std::string(text);
    return absl::OkStatus();
  }

  absl::Status Proto() {
    ASSIGN_OR_RETURN(const uint8_t protocol, TakeLe<uint8_t>());
    if (protocol < 2 || protocol > 5) return Bad("protocol ", int{protocol}, "; known are 2 to 5");
    return absl::OkStatus();
  }

  absl::Status Memo(uint8_t opcode) {
    uint32_t key = static_cast<uint32_t>(memo_.size());  // kMemoize
    if (opcode == kBinGet || opcode == kBinPut) {
      ASSIGN_OR_RETURN(key, TakeLe<uint8_t>());
    } else if (opcode != kMemoize) {
      ASSIGN_OR_RETURN(key, TakeLe<uint32_t>());
    }
    if (opcode == kBinGet || opcode == kLongBinGet) {
      const auto found = memo_.find(key);
      if (found == memo_.end()) return Bad("value ", key, " was never noted");
      stack_.push_back(found->second);
      return absl::OkStatus();
    }
    RETURN_IF_ERROR(Need(1));
    if (memo_.size() >= kMaxPickleNodes) return Bad("more than ", kMaxPickleNodes, " noted values");
    memo_[key] = stack_.back();
    return absl::OkStatus();
  }

  absl::Status Tuple(uint8_t opcode) {
    size_t begin = stack_.size();
    if (opcode == kTuple) {
      ASSIGN_OR_RETURN(begin, TakeMark());
    } else if (opcode != kEmptyTuple) {
      const size_t n = opcode - kTuple1 + 1;
      RETURN_IF_ERROR(Need(n));
      begin -= n;
    }
    ASSIGN_OR_RETURN(const uint32_t tuple, NewNode(Kind::kTuple));
    pickle_.nodes[tuple].children.assign(stack_.begin() + begin, stack_.end());
    stack_.resize(begin);
    stack_.push_back(tuple);
    return absl::OkStatus();
  }

  absl::Status Append(bool many) {
    size_t begin = stack_.size() - 1;
    if (many) {
      ASSIGN_OR_RETURN(begin, TakeMark());
      RETURN_IF_ERROR(NeedBelow(begin, 1));
    } else {
      RETURN_IF_ERROR(Need(2));
    }
    PickleNode& list = pickle_.nodes[stack_[begin - 1]];
    if (list.kind != Kind::kList) return Bad("items are appended to what is no list");
    list.children.insert(list.children.end(), stack_.begin() + begin, stack_.end());
    stack_.resize(begin);
    return absl::OkStatus();
  }

  absl::Status SetItems(bool many) {
    size_t begin = stack_.size() - 2;
    if (many) {
      ASSIGN_OR_RETURN(begin, TakeMark());
      RETURN_IF_ERROR(NeedBelow(begin, 1));
      if ((stack_.size() - begin) % 2 != 0) return Bad("a key without a value");
    } else {
      RETURN_IF_ERROR(Need(3));
    }
    PickleNode& dict = pickle_.nodes[stack_[begin - 1]];
    if (dict.kind != Kind::kDict && dict.kind != Kind::kCall) {
      return Bad("keys are set on what is no dict");
    }
    dict.children.insert(dict.children.end(), stack_.begin() + begin, stack_.end());
    stack_.resize(begin);
    return absl::OkStatus();
  }

  // OK when `n` values lie directly below position `begin`, above the mark that is now the latest.
  absl::Status NeedBelow(size_t begin, size_t n) const {
    if (begin - (marks_.empty() ? 0 : marks_.back()) < n) {
      return Bad("there is no value below the mark");
    }
    return absl::OkStatus();
  }

  absl::Status Global(uint8_t opcode) {
    std::string full_name;
    if (opcode == kGlobal) {
      ASSIGN_OR_RETURN(const absl::string_view module, TakeLine());
      ASSIGN_OR_RETURN(const absl::string_view name, TakeLine());
      full_name = absl::StrCat(module, ".", name);
    } else {
      RETURN_IF_ERROR(Need(2));
      const PickleNode& name = Top();
      const PickleNode& module = pickle_.nodes[stack_[stack_.size() - 2]];
      if (module.kind != Kind::kText || name.kind != Kind::kText) {
        return Bad("a global's name is no string");
      }
      full_name = absl::StrCat(module.text.substr(0, kMaxGlobalBytes), ".",
                               name.text.substr(0, kMaxGlobalBytes));
      stack_.resize(stack_.size() - 2);
    }
    if (std::find(allowed_globals_.begin(), allowed_globals_.end(), full_name) ==
        allowed_globals_.end()) {
      return InvalidArgument(where_, ": the pickle refers to ", PrintableUtf8(full_name),
                             ", which is not allowed: only tensors and plain values are read, "
                             "nothing is executed");
    }
    RETURN_IF_ERROR(Push(Kind::kGlobal));
    Top().text = std::move(full_name);
    return absl::OkStatus();
  }

  absl::Status Call() {
    RETURN_IF_ERROR(Need(2));
    const uint32_t callee = stack_[stack_.size() - 2];
    const uint32_t arguments = stack_.back();
    if (pickle_.nodes[callee].kind != Kind::kGlobal ||
        pickle_.nodes[arguments].kind != Kind::kTuple) {
      return Bad("it calls what is no global, or without a tuple of arguments");
    }
    ASSIGN_OR_RETURN(const uint32_t call, NewNode(Kind::kCall));
    pickle_.nodes[call].children = {callee, arguments};
    stack_.resize(stack_.size() - 2);
    stack_.push_back(call);
    return absl::OkStatus();
  }

  absl::Status Build() {
    RETURN_IF_ERROR(Need(2));
    PickleNode& target = pickle_.nodes[stack_[stack_.size() - 2]];
    if (target.kind != Kind::kCall) return Bad("BUILD of a plain value");
    target.state = stack_.back();
    stack_.pop_back();
    return absl::OkStatus();
  }

  absl::Status PersistentId() {
    RETURN_IF_ERROR(Need(1));
    ASSIGN_OR_RETURN(const uint32_t persistent, NewNode(Kind::kPersistent));
    pickle_.nodes[persistent].children = {stack_.back()};
    stack_.back() = persistent;
    return absl::OkStatus();
  }

  const absl::string_view bytes_;
  const absl::string_view where_;
  const absl::Span<const absl::string_view> allowed_globals_;
  size_t at_ = 0;
  size_t opcode_at_ = 0;
  Pickle pickle_;
  std::vector<uint32_t> stack_;
  std::vector<size_t> marks_;  // sizes of the stack
  absl::flat_hash_map<uint32_t, uint32_t> memo_;
};

}  // namespace

absl::StatusOr<Pickle> ParsePickle(absl::string_view bytes, absl::string_view where,
                                   absl::Span<const absl::string_view> allowed_globals) {
  return Machine(bytes, where, allowed_globals).Run();
}

}  // namespace featurescope
