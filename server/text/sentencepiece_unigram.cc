// Unigram as SentencePiece does it: the cut into pieces with the highest sum of scores (Viterbi).
//
// Sums are rounded to float where google/sentencepiece rounds them, so that near ties fall alike.
// Source: Kudo 2018, "Subword Regularization", arXiv:1804.10959; google/sentencepiece,
// src/unigram_model.cc (EncodeOptimized).

#include <algorithm>
#include <cstdint>
#include <limits>
#include <utility>

#include "server/formats/utf8.h"
#include "server/text/sentencepiece_encoder.h"
#include "server/text/sorted_pieces.h"

namespace featurescope {
namespace {

constexpr float kUnknownPenalty = 10;

class UnigramEncoder final : public SentencePieceEncoder {
 public:
  explicit UnigramEncoder(SentencePieceModel source) : SentencePieceEncoder(std::move(source)) {
    float lowest = std::numeric_limits<float>::max();
    for (uint32_t id = 0; id < model().pieces.size(); ++id) {
      const SentencePiece& piece = model().pieces[id];
      if (piece.is_text() && piece.type != SentencePiece::Type::kUnused) {
        pieces_.Add(piece.text, id);
      }
      if (piece.type != SentencePiece::Type::kNormal) continue;
      lowest = std::min(lowest, piece.score);
      highest_score_ = std::max(highest_score_, piece.score);
    }
    pieces_.Sort();
    unknown_score_ = lowest - kUnknownPenalty;
  }

 protected:
  void EncodeMarked(absl::string_view text, std::vector<uint32_t>* ids) const override;

 private:
  static constexpr uint32_t kNowhere = UINT32_MAX;

  // The best way to cut the text up to one byte: its last piece and its sum of scores.
  struct Path {
    float score = 0;
    uint32_t begin = kNowhere;  // of the last piece
    uint32_t id = 0;
  };

  // User-defined pieces get a score that no other cut of their text reaches.
  double Score(uint32_t id, size_t size) const {
    const SentencePiece& piece = model().pieces[id];
    return piece.type == SentencePiece::Type::kUserDefined
               ? static_cast<float>(size) * highest_score_ - 0.1
               : double{piece.score};
  }
  std::vector<Path> FindPaths(absl::string_view text) const;

  SortedPieces pieces_;
  // As in the source: never below the smallest positive number.
  float highest_score_ = std::numeric_limits<float>::min();
  float unknown_score_ = 0;
};

// By end, exclusive: the best paths of all beginnings of `text`.
std::vector<UnigramEncoder::Path> UnigramEncoder::FindPaths(absl::string_view text) const {
  std::vector<Path> paths(text.size() + 1);
  for (size_t at = 0; at < text.size();) {
    const float so_far = paths[at].score;
    const auto offer = [&](size_t size, uint32_t id, double sum) {
      Path& path = paths[at + size];
      if (path.begin != kNowhere && sum <= path.score) return;
      path = {static_cast<float>(sum), static_cast<uint32_t>(at), id};
    };
    const absl::string_view rest = text.substr(at);
    const size_t character = static_cast<size_t>(std::max(1, Utf8SequenceLength(rest)));
    bool character_is_piece = false;
    pieces_.ForEachPrefix(rest, [&](uint32_t id, size_t size) {
      offer(size, id, Score(id, size) + so_far);
      if (size == character) character_is_piece = true;
    });
    if (!character_is_piece) offer(character, model().unk_id, unknown_score_ + so_far);
    at += character;
  }
  return paths;
}

void UnigramEncoder::EncodeMarked(absl::string_view text, std::vector<uint32_t>* ids) const {
  const std::vector<Path> paths = FindPaths(text);
  std::vector<size_t> ends;
  for (size_t end = text.size(); end > 0; end = paths[end].begin) ends.push_back(end);
  for (auto end = ends.rbegin(); end != ends.rend(); ++end) {
    const Path& path = paths[*end];
    if (path.id == model().unk_id) {
      AppendCharacter(text.substr(path.begin, *end - path.begin), ids);
    } else {
      ids->push_back(path.id);
    }
  }
}

}  // namespace

std::unique_ptr<const SentencePieceEncoder> MakeSentencePieceUnigram(SentencePieceModel model) {
  return std::make_unique<UnigramEncoder>(std::move(model));
}

}  // namespace featurescope
