#include "server/text/sentencepiece_encoder.h"

#include <string>
#include <utility>

#include "absl/strings/str_replace.h"

namespace featurescope {

std::unique_ptr<const SentencePieceEncoder> SentencePieceEncoder::Create(SentencePieceModel model) {
  return model.algorithm == SentencePieceModel::Algorithm::kBpe
             ? MakeSentencePieceBpe(std::move(model))
             : MakeSentencePieceUnigram(std::move(model));
}

void SentencePieceEncoder::Encode(absl::string_view text, std::vector<uint32_t>* ids) const {
  if (!text.empty()) EncodeMarked(absl::StrReplaceAll(text, {{" ", kSpaceMark}}), ids);
}

void SentencePieceEncoder::AppendCharacter(absl::string_view character,
                                           std::vector<uint32_t>* ids) const {
  const absl::string_view bytes = character == kSpaceMark ? " " : character;
  for (char byte : bytes) ids->push_back(model_.byte_ids[static_cast<uint8_t>(byte)]);
}

}  // namespace featurescope
