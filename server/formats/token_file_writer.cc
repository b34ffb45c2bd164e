#include <unistd.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "server/base/status.h"
#include "server/formats/token_file.h"
#include "server/formats/token_file_sidecar.h"
#include "server/formats/token_spool.h"

namespace featurescope {
namespace {

std::string Offset(uint64_t token) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes.push_back(static_cast<char>(token >> (8 * i)));
  return bytes;
}

template <int kBytes>
void AppendTokens(absl::Span<const uint32_t> ids, std::string* out) {
  const size_t size = out->size();
  out->resize(size + ids.size() * kBytes);
  char* at = &(*out)[size];
  for (const uint32_t id : ids) {
    for (int i = 0; i < kBytes; ++i) *at++ = static_cast<char>(id >> (8 * i));
  }
}

}  // namespace

absl::Status TokenFileWriter::Part::Append(absl::string_view bytes) {
  sha.Update(bytes);
  return file.Append(bytes);
}

TokenFileWriter::TokenFileWriter(std::string dir, TokenFileSpec spec, Part tokens, Part documents)
    : dir_(std::move(dir)),
      spec_(std::move(spec)),
      tokens_(std::move(tokens)),
      documents_(std::move(documents)) {}

TokenFileWriter::TokenFileWriter(TokenFileWriter&&) noexcept = default;
TokenFileWriter& TokenFileWriter::operator=(TokenFileWriter&&) noexcept = default;
TokenFileWriter::~TokenFileWriter() = default;

absl::StatusOr<TokenFileWriter> TokenFileWriter::Create(const std::string& dir,
                                                        TokenFileSpec spec) {
  RETURN_IF_ERROR(CheckTokenFileSpec(spec, dir));
  if (!spec.prepend_bos || spec.layout != ContextLayout::kPacked) spec.document_bos = true;
  RETURN_IF_ERROR(EnsureDir(dir));
  if (FileExists(JoinPath(dir, kSidecarName))) {
    return AlreadyExists(dir, ": holds a corpus already");
  }
  ASSIGN_OR_RETURN(AtomicFile tokens, AtomicFile::Create(JoinPath(dir, kTokensName)));
  ASSIGN_OR_RETURN(AtomicFile documents, AtomicFile::Create(JoinPath(dir, kDocumentsName)));
  TokenFileWriter writer(dir, std::move(spec), {std::move(tokens), {}}, {std::move(documents), {}});
  if (HasContextsFile(writer.spec_)) {
    ASSIGN_OR_RETURN(AtomicFile contexts, AtomicFile::Create(JoinPath(dir, kContextsName)));
    writer.contexts_.emplace(Part{std::move(contexts), {}});
  }
  return writer;
}

uint64_t TokenFileWriter::n_tokens() const {
  return sizes_.n_tokens + (heldout_ == nullptr ? 0 : heldout_->n_tokens());
}

uint64_t TokenFileWriter::n_documents() const {
  return sizes_.n_documents + (heldout_ == nullptr ? 0 : heldout_->n_documents());
}

absl::Status TokenFileWriter::AppendDocument(absl::Span<const uint32_t> ids, bool held_out) {
  if (ids.empty()) return absl::OkStatus();
  for (uint32_t id : ids) {
    if (id >= spec_.vocab_size) {
      return InvalidArgument(dir_, ": document ", n_documents(), ": token id ", id,
                             " is out of range [0, ", spec_.vocab_size, ")");
    }
  }
  if (!held_out) return LayOut(ids);
  if (heldout_ == nullptr) {
    ASSIGN_OR_RETURN(heldout_, TokenSpool::Create(dir_));
  }
  ++n_heldout_documents_;
  return heldout_->Append(ids);
}

absl::Status TokenFileWriter::LayOut(absl::Span<const uint32_t> ids) {
  RETURN_IF_ERROR(documents_.Append(Offset(sizes_.n_tokens)));
  ++sizes_.n_documents;

  const bool begins_context = room_ == 0 || spec_.layout != ContextLayout::kPacked;
  const bool begins_with_bos = spec_.prepend_bos && (begins_context || spec_.document_bos);
  if (begins_context) {
    BeginContext();
  } else if (begins_with_bos) {
    Push({spec_.bos_id});
  }
  if (begins_with_bos && ids.front() == spec_.bos_id) ids.remove_prefix(1);
  if (spec_.layout == ContextLayout::kTruncated) {
    const size_t n_kept = std::min<size_t>(ids.size(), room_);
    Push(ids.subspan(0, n_kept));
    n_dropped_tokens_ += ids.size() - n_kept;
    if (spec_.eos_id && n_kept == ids.size() && room_ > 0) Push({*spec_.eos_id});
  } else {
    PushFilling(ids);
    if (spec_.eos_id) PushFilling({*spec_.eos_id});
  }
  RETURN_IF_ERROR(tokens_.Append(pending_tokens_));
  pending_tokens_.clear();
  if (contexts_) {
    RETURN_IF_ERROR(contexts_->Append(pending_contexts_));
  }
  pending_contexts_.clear();
  return absl::OkStatus();
}

void TokenFileWriter::PushFilling(absl::Span<const uint32_t> ids) {
  while (!ids.empty()) {
    if (room_ == 0) BeginContext();
    const size_t n = std::min<size_t>(ids.size(), room_);
    Push(ids.subspan(0, n));
    ids.remove_prefix(n);
  }
}

void TokenFileWriter::BeginContext() {
  if (contexts_) pending_contexts_ += Offset(sizes_.n_tokens);
  ++sizes_.n_contexts;
  room_ = spec_.context_size;
  if (spec_.prepend_bos) Push({spec_.bos_id});
}

// REQUIRES: they fit into the current context.
void TokenFileWriter::Push(absl::Span<const uint32_t> ids) {
  if (BytesPerToken(spec_) == 2) {
    AppendTokens<2>(ids, &pending_tokens_);
  } else {
    AppendTokens<4>(ids, &pending_tokens_);
  }
  sizes_.n_tokens += ids.size();
  room_ -= static_cast<uint32_t>(ids.size());
}

absl::Status TokenFileWriter::LayOutHeldOut() {
  sizes_.n_train_tokens = sizes_.n_tokens;
  sizes_.n_train_documents = sizes_.n_documents;
  sizes_.n_train_contexts = sizes_.n_contexts;
  if (heldout_ == nullptr) return absl::OkStatus();
  room_ = 0;
  const std::unique_ptr<TokenSpool> heldout = std::move(heldout_);
  return heldout->ForEach([this](absl::Span<const uint32_t> ids) { return LayOut(ids); });
}

absl::Status TokenFileWriter::Finish() {
  if (n_tokens() == 0) return InvalidArgument(dir_, ": the corpus has no tokens");
  if (sizes_.n_tokens == 0) {
    return InvalidArgument(dir_, ": all ", n_heldout_documents_,
                           " documents are held out, none is left to train on");
  }
  RETURN_IF_ERROR(LayOutHeldOut());
  hash_ = TokenFileHash(spec_, sizes_, tokens_.sha.HexDigest(), documents_.sha.HexDigest(),
                        contexts_ ? contexts_->sha.HexDigest() : "");
  std::vector<AtomicFile*> files = {&tokens_.file, &documents_.file};
  if (contexts_) files.push_back(&contexts_->file);
  absl::Status status;
  for (AtomicFile* file : files) {
    if (status.ok()) status = file->Commit();
  }
  if (status.ok()) {
    status = WriteFileAtomically(JoinPath(dir_, kSidecarName),
                                 TokenFileSidecarText({spec_, sizes_, hash_}));
  }
  if (status.ok()) return status;
  for (AtomicFile* file : files) unlink(file->path().c_str());  // a corpus is there whole or not
  return status;
}

}  // namespace featurescope
