#include "server/text/sentencepiece_bridge.h"

#include <sentencepiece_processor.h>

namespace featurescope {

struct SentencePieceBridge::Processor {
  sentencepiece::SentencePieceProcessor sp;
};

SentencePieceBridge::SentencePieceBridge() : processor_(std::make_unique<Processor>()) {}
SentencePieceBridge::~SentencePieceBridge() = default;

std::unique_ptr<SentencePieceBridge> SentencePieceBridge::Load(const std::string& model,
                                                               std::string* error) {
  std::unique_ptr<SentencePieceBridge> bridge(new SentencePieceBridge());
  const sentencepiece::util::Status status = bridge->processor_->sp.LoadFromSerializedProto(model);
  if (status.ok()) return bridge;
  *error = status.ToString();
  return nullptr;
}

bool SentencePieceBridge::Encode(std::string_view text, std::vector<int>* ids,
                                 std::string* error) const {
  const sentencepiece::util::Status status = processor_->sp.Encode(text, ids);
  if (!status.ok()) *error = status.ToString();
  return status.ok();
}

int SentencePieceBridge::size() const { return processor_->sp.GetPieceSize(); }

std::string SentencePieceBridge::Piece(int id) const { return processor_->sp.IdToPiece(id); }

SentencePieceBridge::PieceKind SentencePieceBridge::Kind(int id) const {
  const auto& sp = processor_->sp;
  if (sp.IsUnknown(id)) return PieceKind::kUnknown;
  if (sp.IsControl(id)) return PieceKind::kControl;
  if (sp.IsByte(id)) return PieceKind::kByte;
  if (sp.IsUnused(id)) return PieceKind::kUnused;
  return PieceKind::kNormal;
}

int SentencePieceBridge::bos_id() const { return processor_->sp.bos_id(); }
int SentencePieceBridge::eos_id() const { return processor_->sp.eos_id(); }

}  // namespace featurescope
