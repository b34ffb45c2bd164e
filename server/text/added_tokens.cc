#include "server/text/added_tokens.h"

#include <algorithm>

#include "server/formats/utf8.h"
#include "server/text/characters.h"
#include "server/text/unicode_class.h"

namespace featurescope {
namespace {

uint64_t ChildKey(uint32_t node, char byte) {
  return uint64_t{node} << 8 | static_cast<uint8_t>(byte);
}

constexpr Character kNoCharacter = {0xfffd, 1};  // a byte that is no UTF-8

Character SafeCharacterAt(absl::string_view text, size_t at) {
  return Utf8SequenceLength(text.substr(at, 4)) > 0 ? CharacterAt(text, at) : kNoCharacter;
}

Character SafeCharacterBefore(absl::string_view text, size_t at) {
  for (size_t size = 1; size <= std::min(at, size_t{4}); ++size) {
    if (static_cast<size_t>(Utf8SequenceLength(text.substr(at - size, size))) == size) {
      return CharacterAt(text, at - size);
    }
  }
  return kNoCharacter;
}

bool IsSingleWord(absl::string_view text, size_t begin, size_t end) {
  return (begin == 0 || !IsWordCharacter(SafeCharacterBefore(text, begin).code)) &&
         (end == text.size() || !IsWordCharacter(SafeCharacterAt(text, end).code));
}

size_t SkipSpacesBefore(absl::string_view text, size_t at, size_t stop) {
  while (at > stop) {
    const Character c = SafeCharacterBefore(text, at);
    if (!IsWhiteSpace(c.code)) break;
    at -= c.size;
  }
  return at;
}

size_t SkipSpacesBehind(absl::string_view text, size_t at) {
  while (at < text.size()) {
    const Character c = SafeCharacterAt(text, at);
    if (!IsWhiteSpace(c.code)) break;
    at += c.size;
  }
  return at;
}

}  // namespace

void AddedTokens::Add(absl::string_view content, uint32_t id, const AddedTokenOptions& options) {
  first_bytes_.set(static_cast<uint8_t>(content[0]));
  uint32_t node = 0;
  for (char byte : content) {
    const auto [child, inserted] =
        children_.try_emplace(ChildKey(node, byte), static_cast<uint32_t>(token_at_node_.size()));
    if (inserted) token_at_node_.push_back(kNoToken);
    node = child->second;
  }
  if (token_at_node_[node] != kNoToken) return;
  token_at_node_[node] = static_cast<uint32_t>(tokens_.size());
  tokens_.push_back({id, options});
}

size_t AddedTokens::Match(absl::string_view text, const Token** token) const {
  size_t length = 0;
  uint32_t node = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto child = children_.find(ChildKey(node, text[i]));
    if (child == children_.end()) break;
    node = child->second;
    if (token_at_node_[node] != kNoToken) {
      length = i + 1;
      *token = &tokens_[token_at_node_[node]];
    }
  }
  return length;
}

void AddedTokens::Split(absl::string_view text, bool with_special,
                        absl::FunctionRef<void(absl::string_view, size_t)> on_text,
                        absl::FunctionRef<void(uint32_t)> on_token) const {
  size_t begin = 0;
  size_t at = 0;
  size_t spaces_begin = 0, spaces_end = 0;  // white space that was skipped last
  while (!empty() && at < text.size()) {
    const Token* token = nullptr;
    const size_t length =
        first_bytes_[static_cast<uint8_t>(text[at])] ? Match(text.substr(at), &token) : 0;
    if (length == 0) {
      ++at;
      continue;
    }
    size_t token_begin = at;
    size_t token_end = at += length;
    const AddedTokenOptions& options = token->options;
    if (options.special && !with_special) continue;
    if (options.single_word && !IsSingleWord(text, token_begin, token_end)) continue;
    // White space that the token before has taken is not taken twice.
    if (options.lstrip) token_begin = SkipSpacesBefore(text, token_begin, begin);
    if (options.rstrip) {
      if (token_end < spaces_begin || token_end > spaces_end) {
        spaces_begin = token_end;
        spaces_end = SkipSpacesBehind(text, token_end);
      }
      token_end = spaces_end;
    }
    if (token_begin > begin) on_text(text.substr(begin, token_begin - begin), begin);
    on_token(token->id);
    begin = token_end;
  }
  if (begin < text.size()) on_text(text.substr(begin), begin);
}

}  // namespace featurescope
