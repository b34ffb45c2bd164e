// BPE as SentencePiece does it: of all neighbours whose joint text is a piece, those of the highest
// score are joined first, leftmost first.
//
// Source: google/sentencepiece, src/bpe_model.cc.

#include <algorithm>
#include <cstdint>
#include <queue>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "server/formats/utf8.h"
#include "server/text/added_tokens.h"
#include "server/text/sentencepiece_encoder.h"

namespace featurescope {
namespace {

constexpr uint32_t kNone = UINT32_MAX;

class BpeEncoder final : public SentencePieceEncoder {
 public:
  explicit BpeEncoder(SentencePieceModel source) : SentencePieceEncoder(std::move(source)) {
    for (uint32_t id = 0; id < model().pieces.size(); ++id) {
      const SentencePiece& piece = model().pieces[id];
      if (!piece.is_text()) continue;
      ids_.emplace(piece.text, id);
      longest_ = std::max(longest_, piece.text.size());
      if (piece.type == SentencePiece::Type::kUserDefined) user_defined_.Add(piece.text, id);
    }
  }

  uint32_t Find(absl::string_view text) const {
    if (text.size() > longest_) return kNone;
    const auto found = ids_.find(text);
    return found == ids_.end() ? kNone : found->second;
  }
  float Score(uint32_t id) const { return model().pieces[id].score; }
  bool IsUnused(uint32_t id) const {
    return model().pieces[id].type == SentencePiece::Type::kUnused;
  }
  const AddedTokens& user_defined() const { return user_defined_; }
  using SentencePieceEncoder::AppendCharacter;

 protected:
  void EncodeMarked(absl::string_view text, std::vector<uint32_t>* ids) const override;

 private:
  absl::flat_hash_map<absl::string_view, uint32_t> ids_;  // into model().pieces
  AddedTokens user_defined_;
  size_t longest_ = 0;  // bytes
};

// The symbols of one text while they are merged: a linked list, and a heap of candidate pairs
// whose stale entries are dropped on the way out. O(n log n).
class Merging {
 public:
  Merging(const BpeEncoder& encoder, absl::string_view text) : encoder_(encoder), text_(text) {
    symbols_.reserve(text.size());
    encoder.user_defined().Split(
        text, /*with_special=*/true,
        [this](absl::string_view part, size_t) {
          while (!part.empty()) {
            const size_t length = static_cast<size_t>(std::max(1, Utf8SequenceLength(part)));
            AddSymbol(length, false);
            part.remove_prefix(length);
          }
        },
        [this](uint32_t id) { AddSymbol(encoder_.model().pieces[id].text.size(), true); });
    symbols_.back().next = -1;
  }

  void Run();
  void Append(std::vector<uint32_t>* ids) const {
    for (int32_t at = 0; at >= 0; at = symbols_[at].next) AppendPiece(TextOf(symbols_[at]), ids);
  }

 private:
  struct Symbol {
    uint32_t begin;  // byte in text_
    uint32_t size;   // 0: merged into the symbol before
    int32_t previous;
    int32_t next;  // -1: none
    bool user_defined;
  };
  struct Candidate {
    float score;
    int32_t left;
    int32_t right;
    uint32_t size;  // of both symbols when this was offered
    bool operator<(const Candidate& other) const {
      return score != other.score ? score < other.score : left > other.left;
    }
  };

  void AddSymbol(size_t size, bool user_defined) {
    const int32_t at = static_cast<int32_t>(symbols_.size());
    symbols_.push_back({end_, static_cast<uint32_t>(size), at - 1, at + 1, user_defined});
    end_ += static_cast<uint32_t>(size);
  }
  absl::string_view TextOf(const Symbol& symbol) const {
    return text_.substr(symbol.begin, symbol.size);
  }
  void Offer(int32_t left, int32_t right);
  void AppendPiece(absl::string_view piece, std::vector<uint32_t>* ids) const;

  const BpeEncoder& encoder_;
  const absl::string_view text_;
  uint32_t end_ = 0;
  std::vector<Symbol> symbols_;
  std::priority_queue<Candidate> candidates_;
  // Unused pieces by id: how many of their bytes belong to the left part they are split into.
  absl::flat_hash_map<uint32_t, uint32_t> left_parts_;
};

void Merging::Offer(int32_t left, int32_t right) {
  if (left < 0 || right < 0) return;
  const Symbol& a = symbols_[left];
  const Symbol& b = symbols_[right];
  if (a.user_defined || b.user_defined) return;
  const uint32_t size = a.size + b.size;
  const uint32_t id = encoder_.Find(text_.substr(a.begin, size));
  if (id == kNone) return;
  candidates_.push({encoder_.Score(id), left, right, size});
  if (encoder_.IsUnused(id)) left_parts_[id] = a.size;
}

void Merging::Run() {
  for (int32_t at = 0; symbols_[at].next >= 0; ++at) Offer(at, at + 1);
  while (!candidates_.empty()) {
    const Candidate best = candidates_.top();
    candidates_.pop();
    Symbol& left = symbols_[best.left];
    Symbol& right = symbols_[best.right];
    if (left.size == 0 || right.size == 0 || left.size + right.size != best.size) continue;
    left.size = best.size;
    left.next = right.next;
    if (right.next >= 0) symbols_[right.next].previous = best.left;
    right.size = 0;
    Offer(left.previous, best.left);
    Offer(best.left, left.next);
  }
}

// An unused piece is given as the two parts that it was merged from, and so on.
void Merging::AppendPiece(absl::string_view piece, std::vector<uint32_t>* ids) const {
  const uint32_t id = encoder_.Find(piece);
  if (id == kNone) return encoder_.AppendCharacter(piece, ids);
  if (const auto part = left_parts_.find(id); part != left_parts_.end()) {
    AppendPiece(piece.substr(0, part->second), ids);
    AppendPiece(piece.substr(part->second), ids);
    return;
  }
  ids->push_back(id);
}

void BpeEncoder::EncodeMarked(absl::string_view text, std::vector<uint32_t>* ids) const {
  Merging merging(*this, text);
  merging.Run();
  merging.Append(ids);
}

}  // namespace

std::unique_ptr<const SentencePieceEncoder> MakeSentencePieceBpe(SentencePieceModel model) {
  return std::make_unique<BpeEncoder>(std::move(model));
}

}  // namespace featurescope
