#include "server/text/charsmap.h"

#include <utf8proc.h>

#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_split.h"
#include "server/base/status.h"
#include "server/formats/utf8.h"
#include "server/text/characters.h"

namespace featurescope {
namespace {

constexpr size_t kMaxMapBytes = 16u << 20;
constexpr size_t kMaxMappedBytes = 256;  // of one text; the longest in use has 33
constexpr size_t kMaxClusterBytes = 5;

uint32_t LittleEndian(absl::string_view bytes) {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) {
    value |= uint32_t{static_cast<uint8_t>(bytes[i])} << (8 * i);
  }
  return value;
}

// The parts of a unit of the trie.
bool HasLeaf(uint32_t unit) { return (unit >> 8 & 1) != 0; }
uint32_t Value(uint32_t unit) { return unit & 0x7fffffff; }
uint32_t Label(uint32_t unit) { return unit & 0x800000ff; }
size_t Offset(uint32_t unit) { return size_t{unit >> 10} << ((unit & (1u << 9)) >> 6); }

bool IsTail(char c) { return (static_cast<uint8_t>(c) & 0xc0) == 0x80; }

// Bytes of the grapheme cluster that `text` begins with.
size_t ClusterSize(absl::string_view text) {
  utf8proc_int32_t state = 0;
  Character last = CharacterAt(text, 0);
  size_t size = last.size;
  while (size < text.size()) {
    const Character next = CharacterAt(text, size);
    if (utf8proc_grapheme_break_stateful(static_cast<utf8proc_int32_t>(last.code),
                                         static_cast<utf8proc_int32_t>(next.code), &state)) {
      break;
    }
    last = next;
    size += next.size;
  }
  return size;
}

}  // namespace

absl::StatusOr<Charsmap> Charsmap::FromBase64(absl::string_view base64) {
  std::string bytes;
  if (base64.size() > kMaxMapBytes || !absl::Base64Unescape(base64, &bytes) || bytes.size() < 4) {
    return InvalidArgument("precompiled_charsmap is no base64 of 4 to ", kMaxMapBytes, " bytes");
  }
  const absl::string_view rest = absl::string_view(bytes).substr(4);
  const uint32_t trie_bytes = LittleEndian(bytes);
  if (trie_bytes % 4 != 0 || trie_bytes == 0 || trie_bytes > rest.size()) {
    return InvalidArgument("precompiled_charsmap has a trie of ", trie_bytes, " bytes in ",
                           rest.size());
  }
  Charsmap map;
  map.units_.reserve(trie_bytes / 4);
  for (size_t at = 0; at < trie_bytes; at += 4) {
    map.units_.push_back(LittleEndian(rest.substr(at)));
  }
  map.mapped_ = std::string(rest.substr(trie_bytes));
  for (absl::string_view text : absl::StrSplit(map.mapped_, '\0')) {
    if (text.size() > kMaxMappedBytes || ValidUtf8Prefix(text) < text.size()) {
      return InvalidArgument("precompiled_charsmap maps to \"", PrintableUtf8(text, 40), "\" of ",
                             text.size(), " bytes: no UTF-8, or longer than ", kMaxMappedBytes);
    }
  }
  return map;
}

bool Charsmap::Append(absl::string_view chunk, std::string* out) const {
  size_t at = Offset(units_[0]);
  for (char c : chunk) {
    if (c == '\0') return false;
    at ^= static_cast<uint8_t>(c);
    if (at >= units_.size() || Label(units_[at]) != static_cast<uint8_t>(c)) return false;
    const uint32_t unit = units_[at];
    at ^= Offset(unit);
    if (!HasLeaf(unit)) continue;
    if (at >= units_.size()) return false;
    const size_t begin = Value(units_[at]);
    if (begin >= mapped_.size() || IsTail(mapped_[begin])) return false;
    out->append(mapped_, begin, std::min(mapped_.find('\0', begin), mapped_.size()) - begin);
    return true;
  }
  return false;
}

bool Charsmap::Map(absl::string_view text, std::string* out) const {
  std::string mapped;
  mapped.reserve(text.size());
  bool any = false;
  while (!text.empty()) {
    absl::string_view cluster = text.substr(0, ClusterSize(text));
    text.remove_prefix(cluster.size());
    if (cluster.size() <= kMaxClusterBytes && Append(cluster, &mapped)) {
      any = true;
      continue;
    }
    while (!cluster.empty()) {
      const absl::string_view character = cluster.substr(0, CharacterAt(cluster, 0).size);
      cluster.remove_prefix(character.size());
      if (Append(character, &mapped)) {
        any = true;
      } else {
        mapped.append(character.data(), character.size());
      }
    }
  }
  if (!any) return false;
  *out = std::move(mapped);
  return true;
}

}  // namespace featurescope
