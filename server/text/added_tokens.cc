#include "server/text/added_tokens.h"

namespace featurescope {
namespace {

uint64_t ChildKey(uint32_t node, char byte) {
  return uint64_t{node} << 8 | static_cast<uint8_t>(byte);
}

}  // namespace

void AddedTokens::Add(absl::string_view content, uint32_t id) {
  first_bytes_.set(static_cast<uint8_t>(content[0]));
  uint32_t node = 0;
  for (char byte : content) {
    const auto [child, inserted] =
        children_.try_emplace(ChildKey(node, byte), static_cast<uint32_t>(token_at_node_.size()));
    if (inserted) token_at_node_.push_back(kNoToken);
    node = child->second;
  }
  if (token_at_node_[node] == kNoToken) token_at_node_[node] = id;
}

size_t AddedTokens::Match(absl::string_view text, uint32_t* id) const {
  size_t length = 0;
  uint32_t node = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto child = children_.find(ChildKey(node, text[i]));
    if (child == children_.end()) break;
    node = child->second;
    if (token_at_node_[node] != kNoToken) {
      length = i + 1;
      *id = token_at_node_[node];
    }
  }
  return length;
}

void AddedTokens::Split(absl::string_view text,
                        absl::FunctionRef<void(absl::string_view, size_t)> on_text,
                        absl::FunctionRef<void(uint32_t)> on_token) const {
  size_t begin = 0;
  size_t at = 0;
  while (!empty() && at < text.size()) {
    uint32_t id = 0;
    const size_t length =
        first_bytes_[static_cast<uint8_t>(text[at])] ? Match(text.substr(at), &id) : 0;
    if (length == 0) {
      ++at;
      continue;
    }
    if (at > begin) on_text(text.substr(begin, at - begin), begin);
    on_token(id);
    at += length;
    begin = at;
  }
  if (begin < text.size()) on_text(text.substr(begin), begin);
}

}  // namespace featurescope
