// Unigram as SentencePiece does it: the cut into pieces with the highest sum of scores (Viterbi).
//
// Sums are rounded to float where google/sentencepiece rounds them, so that near ties fall alike.
// Source: Kudo 2018, "Subword Regularization", arXiv:1804.10959; google/sentencepiece,
// src/unigram_model.cc (EncodeOptimized).

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <utility>

#include "server/formats/utf8.h"
#include "server/text/sentencepiece_encoder.h"

namespace featurescope {
namespace {

constexpr float kUnknownPenalty = 10;

// Pieces in the order of their bytes: those that begin with the same bytes are neighbours.
class SortedPieces {
 public:
  void Add(absl::string_view text, uint32_t id) { entries_.push_back({text, id}); }
  void Sort() {
    std::sort(entries_.begin(), entries_.end(),
              [](const Entry& a, const Entry& b) { return a.text < b.text; });
    for (const Entry& entry : entries_) ++first_[static_cast<uint8_t>(entry.text[0]) + 1];
    for (size_t byte = 1; byte < first_.size(); ++byte) first_[byte] += first_[byte - 1];
  }

  // Calls on_piece(id, size) for every piece that `text` begins with, shortest first.
  // REQUIRES: text is not empty; Sort was called after the last Add.
  template <typename OnPiece>
  void ForEachPrefix(absl::string_view text, const OnPiece& on_piece) const {
    const size_t byte = static_cast<uint8_t>(text[0]);
    const Entry* begin = entries_.data() + first_[byte];
    const Entry* end = entries_.data() + first_[byte + 1];
    for (size_t size = 1; begin != end; ++size) {
      if (begin->text.size() == size) {
        on_piece(begin->id, size);
        ++begin;
      }
      if (begin == end || size == text.size()) return;
      Narrow(static_cast<uint8_t>(text[size]), size, &begin, &end);
    }
  }

 private:
  struct Entry {
    absl::string_view text;
    uint32_t id;
  };
  // Keeps the entries whose byte `at` is `byte`. REQUIRES: all are longer than `at`.
  static void Narrow(uint8_t byte, size_t at, const Entry** begin, const Entry** end) {
    const auto byte_of = [at](const Entry& entry) { return static_cast<uint8_t>(entry.text[at]); };
    if (byte_of(**begin) == byte && byte_of((*end)[-1]) == byte) return;
    *begin = std::partition_point(*begin, *end,
                                  [&](const Entry& entry) { return byte_of(entry) < byte; });
    *end = std::partition_point(*begin, *end,
                                [&](const Entry& entry) { return byte_of(entry) == byte; });
  }

  std::vector<Entry> entries_;
  std::array<size_t, 257> first_{};  // by first byte: where its entries begin
};

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
