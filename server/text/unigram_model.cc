// The model "Unigram" of tokenizer.json: the cut into pieces with the highest sum of scores.
//
// Unlike google/sentencepiece's (sentencepiece_unigram.cc), sums are doubles, and neighbouring
// unknown characters are one token.
// Source: Kudo 2018, "Subword Regularization", arXiv:1804.10959; huggingface/tokenizers,
// models/unigram/model.rs.

#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/formats/json.h"
#include "server/text/characters.h"
#include "server/text/sorted_pieces.h"
#include "server/text/token_model.h"

namespace featurescope {
namespace {

using Json = nlohmann::json;

constexpr double kUnknownPenalty = 10;
constexpr size_t kMaxPieceBytes = 512;  // each byte of a text may cost as many steps

class UnigramModel final : public TokenModel {
 public:
  UnigramModel(const Vocabulary& vocabulary, std::vector<double> scores, uint32_t unk,
               bool byte_fallback)
      : scores_(std::move(scores)), unk_(unk), byte_fallback_(byte_fallback), bytes_(vocabulary) {
    texts_.reserve(scores_.size());
    double lowest = std::numeric_limits<double>::infinity();
    for (uint32_t id = 0; id < scores_.size(); ++id) {
      texts_.push_back(vocabulary.entries()[id].text);
      lowest = std::min(lowest, scores_[id]);
      if (!texts_[id].empty()) pieces_.Add(texts_[id], id);
    }
    pieces_.Sort();
    unknown_score_ = lowest - kUnknownPenalty;
  }

  void Encode(absl::string_view word, std::vector<uint32_t>* ids) const override;
  void EncodeByte(uint8_t byte, std::vector<uint32_t>* ids) const override {
    const char as_char = static_cast<char>(byte);
    if (!byte_fallback_ || !bytes_.Append({&as_char, 1}, ids)) Encode("\ufffd", ids);
  }
  bool keeps_text() const override { return byte_fallback_ && bytes_.complete(); }

 private:
  static constexpr size_t kNowhere = SIZE_MAX;

  // The best way to cut the word up to one byte: its last piece and its sum of scores.
  struct Path {
    double score = 0;
    size_t begin = kNowhere;  // of the last piece
    uint32_t id = 0;
  };
  std::vector<Path> FindPaths(absl::string_view word) const;

  std::vector<std::string> texts_;  // by id; pieces_ borrows them
  SortedPieces pieces_;
  const std::vector<double> scores_;  // by id
  const uint32_t unk_;
  const bool byte_fallback_;
  const ByteTokens bytes_;
  double unknown_score_ = 0;
};

// By end, exclusive: the best paths of all beginnings of `word`.
std::vector<UnigramModel::Path> UnigramModel::FindPaths(absl::string_view word) const {
  std::vector<Path> paths(word.size() + 1);
  for (size_t at = 0; at < word.size();) {
    const double so_far = paths[at].score;
    const auto offer = [&](size_t size, uint32_t id, double sum) {
      Path& path = paths[at + size];
      if (path.begin == kNowhere || sum > path.score) path = {sum, at, id};
    };
    const size_t character = CharacterAt(word, at).size;
    bool character_is_piece = false;
    pieces_.ForEachPrefix(word.substr(at), [&](uint32_t id, size_t size) {
      offer(size, id, scores_[id] + so_far);
      if (size == character) character_is_piece = true;
    });
    if (!character_is_piece) offer(character, unk_, unknown_score_ + so_far);
    at += character;
  }
  return paths;
}

void UnigramModel::Encode(absl::string_view word, std::vector<uint32_t>* ids) const {
  if (word.empty()) return;
  const std::vector<Path> paths = FindPaths(word);
  std::vector<size_t> ends;
  for (size_t end = word.size(); end > 0; end = paths[end].begin) ends.push_back(end);
  for (size_t i = ends.size(); i-- > 0;) {
    const Path& path = paths[ends[i]];
    if (path.id != unk_) {
      ids->push_back(path.id);
      continue;
    }
    const size_t begin = path.begin;
    while (i > 0 && paths[ends[i - 1]].id == unk_) --i;
    const absl::string_view unknown = word.substr(begin, ends[i] - begin);
    const bool is_written_out = unknown == texts_[unk_];
    if (is_written_out || !byte_fallback_ || !bytes_.Append(unknown, ids)) ids->push_back(unk_);
  }
}

absl::StatusOr<double> ReadEntry(const Json& entry, uint32_t id, const std::string& where,
                                 Vocabulary* vocabulary) {
  if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_number() ||
      !std::isfinite(entry[1].get<double>())) {
    return InvalidArgument(where, ".vocab[", id, "] must be [text, finite score]");
  }
  const std::string& text = entry[0].get_ref<const std::string&>();
  if (text.size() > kMaxPieceBytes) {
    return InvalidArgument(where, ".vocab[", id, "] has ", text.size(), " bytes, at most ",
                           kMaxPieceBytes, " are allowed");
  }
  const absl::Status status = vocabulary->Add(text, id);
  if (!status.ok()) return Annotate(status, absl::StrCat(where, ".vocab"));
  return entry[1].get<double>();
}

}  // namespace

absl::StatusOr<std::unique_ptr<const TokenModel>> ReadUnigramModel(const Json& json,
                                                                   const std::string& where,
                                                                   Vocabulary* vocabulary) {
  for (const auto& [key, value] : json.items()) {
    if (key != "type" && key != "unk_id" && key != "vocab" && key != "byte_fallback") {
      return Unimplemented(where, " Unigram: ", key, " is not supported");
    }
  }
  ASSIGN_OR_RETURN(const bool byte_fallback, JsonBoolOr(json, "byte_fallback", where, false));
  const Json* vocab = JsonFind(json, "vocab");
  if (vocab == nullptr || !vocab->is_array() || vocab->empty() || vocab->size() > kMaxTokenId) {
    return InvalidArgument(where, ".vocab is missing, no array, empty or has more than ",
                           kMaxTokenId, " entries");
  }
  if (JsonFind(json, "unk_id") == nullptr) {
    return Unimplemented(where,
                         " Unigram without unk_id cannot encode every text, and is not supported");
  }
  ASSIGN_OR_RETURN(const int64_t unk,
                   JsonInt(json, "unk_id", where, 0, static_cast<int64_t>(vocab->size()) - 1));
  vocabulary->Reserve(vocab->size());
  std::vector<double> scores;
  for (const Json& entry : *vocab) {
    ASSIGN_OR_RETURN(const double score,
                     ReadEntry(entry, static_cast<uint32_t>(scores.size()), where, vocabulary));
    scores.push_back(score);
  }
  return std::unique_ptr<const TokenModel>(std::make_unique<UnigramModel>(
      *vocabulary, std::move(scores), static_cast<uint32_t>(unk), byte_fallback));
}

}  // namespace featurescope
