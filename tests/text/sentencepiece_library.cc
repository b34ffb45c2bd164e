#include "tests/text/sentencepiece_library.h"

#include <sentencepiece_processor.h>

namespace featurescope {

struct SentencePieceLibrary::Processor {
  sentencepiece::SentencePieceProcessor sp;
};

SentencePieceLibrary::SentencePieceLibrary() : processor_(std::make_unique<Processor>()) {}
SentencePieceLibrary::~SentencePieceLibrary() = default;

std::unique_ptr<SentencePieceLibrary> SentencePieceLibrary::Load(const std::string& model,
                                                                 std::string* error) {
  std::unique_ptr<SentencePieceLibrary> library(new SentencePieceLibrary());
  const sentencepiece::util::Status status = library->processor_->sp.LoadFromSerializedProto(model);
  if (status.ok()) return library;
  *error = status.ToString();
  return nullptr;
}

bool SentencePieceLibrary::Encode(const std::string& text, std::vector<uint32_t>* ids,
                                  std::string* error) const {
  std::vector<int> library_ids;
  const sentencepiece::util::Status status = processor_->sp.Encode(text, &library_ids);
  if (!status.ok()) *error = status.ToString();
  ids->assign(library_ids.begin(), library_ids.end());
  return status.ok();
}

int SentencePieceLibrary::bos_id() const { return processor_->sp.bos_id(); }
int SentencePieceLibrary::eos_id() const { return processor_->sp.eos_id(); }

}  // namespace featurescope
