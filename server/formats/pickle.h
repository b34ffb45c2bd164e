// A Python pickle read into a graph of nodes: a machine that builds and never calls.
//
// Protocol 2 to 5, the opcodes that tensor files use; every other opcode is refused, and every
// global outside the caller's list. What the pickle would call (REDUCE) becomes a node that says
// so.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace featurescope {

constexpr size_t kMaxPickleNodes = 1u << 20;
constexpr uint32_t kNoPickleNode = 0xFFFFFFFF;

struct PickleNode {
  enum class Kind : uint8_t {
    kNone,
    kBool,    // integer: 0 or 1
    kInt,     // integer
    kLong,    // text: little-endian two's complement of more than 8 bytes
    kFloat,   // real
    kText,    // text: valid UTF-8
    kBytes,   // text
    kList,    // children: the items
    kTuple,   // children: the items
    kDict,    // children: key, value, key, value ...
    kGlobal,  // text: "module.name", on the caller's list
    kCall,    // children: a kGlobal, a kTuple of arguments, then keys and values set on the result
    kPersistent,  // children: the id, which the caller's container explains
  };

  Kind kind = Kind::kNone;
  int64_t integer = 0;
  double real = 0;
  std::string text;
  std::vector<uint32_t> children;  // nodes; they may be shared, and form cycles
  uint32_t state = kNoPickleNode;  // of a kCall: the argument of BUILD
};

struct Pickle {
  std::vector<PickleNode> nodes;
  uint32_t root = 0;
  size_t bytes = 0;  // length of the pickle; others may follow it

  const PickleNode& operator[](uint32_t node) const { return nodes[node]; }
};

// Reads the pickle that `bytes` begins with. `where` begins every message.
//   InvalidArgument  a damaged pickle; an opcode or a global that is not allowed, by its name; more
//                    than kMaxPickleNodes values
absl::StatusOr<Pickle> ParsePickle(absl::string_view bytes, absl::string_view where,
                                   absl::Span<const absl::string_view> allowed_globals);

}  // namespace featurescope
