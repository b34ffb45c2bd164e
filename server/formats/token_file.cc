#include "server/formats/token_file.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/formats/token_file_sidecar.h"
#include "server/formats/utf8.h"

namespace featurescope {
namespace {

uint64_t ReadLittleEndian(const unsigned char* bytes, int n) {
  uint64_t value = 0;
  for (int i = 0; i < n; ++i) value |= uint64_t{bytes[i]} << (8 * i);
  return value;
}

// The highest of the ids copied; `kBytes` each.
template <int kBytes>
uint32_t CopyTokens(const unsigned char* bytes, std::vector<uint32_t>* out) {
  uint32_t highest = 0;
  for (uint32_t& id : *out) {
    id = static_cast<uint32_t>(ReadLittleEndian(bytes, kBytes));
    highest = std::max(highest, id);
    bytes += kBytes;
  }
  return highest;
}

std::string Sha256OfMapping(const unsigned char* data, uint64_t size) {
  return Sha256Hex(absl::string_view(reinterpret_cast<const char*>(data), size));
}

}  // namespace

absl::StatusOr<TokenFile::Mapping> TokenFile::Map(const std::string& path,
                                                  uint64_t expected_bytes) {
  Mapping mapping;
  ASSIGN_OR_RETURN(const UniqueFd fd, OpenForReading(path, &mapping.size));
  if (mapping.size != expected_bytes) {
    return absl::DataLossError(absl::StrCat(path, ": has ", mapping.size, " bytes, ", kSidecarName,
                                            " says ", expected_bytes));
  }
  void* data = mmap(nullptr, mapping.size, PROT_READ, MAP_PRIVATE, fd.get(), 0);
  if (data == MAP_FAILED) return ErrnoStatus(errno, absl::StrCat(path, ": cannot map"));
  mapping.data = static_cast<const unsigned char*>(data);
  return mapping;
}

absl::StatusOr<std::shared_ptr<const TokenFile>> TokenFile::Open(const std::string& dir) {
  const std::string path = JoinPath(dir, kSidecarName);
  if (!FileExists(path)) return NotFound(dir, ": holds no corpus (no ", kSidecarName, ")");
  ASSIGN_OR_RETURN(TokenFileSidecar sidecar, ReadTokenFileSidecar(path));
  std::shared_ptr<TokenFile> file(new TokenFile());
  file->dir_ = dir;
  file->spec_ = std::move(sidecar.spec);
  file->sizes_ = sidecar.sizes;
  file->hash_ = std::move(sidecar.hash);
  RETURN_IF_ERROR(file->MapFiles());
  RETURN_IF_ERROR(file->CheckDocuments());
  RETURN_IF_ERROR(file->CheckContexts());
  return std::shared_ptr<const TokenFile>(std::move(file));
}

absl::Status TokenFile::MapFiles() {
  const auto bytes = static_cast<uint64_t>(BytesPerToken(spec_));
  ASSIGN_OR_RETURN(tokens_, Map(JoinPath(dir_, kTokensName), n_tokens() * bytes));
  ASSIGN_OR_RETURN(documents_, Map(JoinPath(dir_, kDocumentsName), n_documents() * 8));
  if (HasContextsFile(spec_)) {
    ASSIGN_OR_RETURN(contexts_, Map(JoinPath(dir_, kContextsName), n_contexts() * 8));
  }
  return absl::OkStatus();
}

// Documents begin at 0 and in rising order, the first one held out where its tokens do.
absl::Status TokenFile::CheckDocuments() const {
  uint64_t last = 0;
  for (uint64_t i = 0; i < n_documents(); ++i) {
    const uint64_t begin = DocumentBegin(i);
    if ((i == 0) != (begin == 0) || (i > 0 && begin <= last) || begin >= n_tokens()) {
      return absl::DataLossError(absl::StrCat(JoinPath(dir_, kDocumentsName), ": document ", i,
                                              " begins at token ", begin, ", the one before at ",
                                              last, ", the corpus has ", n_tokens(), " tokens"));
    }
    last = begin;
  }
  const uint64_t n_train = n_train_documents();
  const uint64_t train_end = n_train == n_documents() ? n_tokens() : DocumentBegin(n_train);
  if (train_end == n_train_tokens()) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(JoinPath(dir_, kDocumentsName), ": the first ", n_train,
                                          " documents end at token ", train_end, ", ", kSidecarName,
                                          " says ", n_train_tokens()));
}

// Each has a token at least and context_size at most, and none has tokens of both parts.
absl::Status TokenFile::CheckContexts() const {
  if (contexts_.data == nullptr) return absl::OkStatus();
  for (uint64_t i = 0; i < n_contexts(); ++i) {
    const uint64_t begin = ContextBegin(i);
    const uint64_t end = ContextBegin(i + 1);
    if ((i == 0 && begin != 0) || end <= begin || end - begin > context_size() ||
        end > n_tokens()) {
      return absl::DataLossError(absl::StrCat(
          JoinPath(dir_, kContextsName), ": context ", i, " is tokens [", begin, ", ", end,
          "), at most ", context_size(), " are allowed, the corpus has ", n_tokens()));
    }
  }
  const uint64_t train_end = ContextBegin(sizes_.n_train_contexts);
  if (train_end == n_train_tokens()) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(
      JoinPath(dir_, kContextsName), ": the first ", sizes_.n_train_contexts,
      " contexts end at token ", train_end, ", ", kSidecarName, " says ", n_train_tokens()));
}

TokenFile::~TokenFile() {
  for (const Mapping& mapping : {tokens_, documents_, contexts_}) {
    if (mapping.data != nullptr) {
      munmap(const_cast<unsigned char*>(mapping.data), mapping.size);
    }
  }
}

uint64_t TokenFile::ContextBegin(uint64_t i) const {
  if (i >= n_contexts()) return n_tokens();
  if (contexts_.data != nullptr) return ReadLittleEndian(contexts_.data + i * 8, 8);
  const uint64_t n_train = sizes_.n_train_contexts;
  return i < n_train ? i * context_size() : n_train_tokens() + (i - n_train) * context_size();
}

uint32_t TokenFile::ContextLength(uint64_t i) const {
  return static_cast<uint32_t>(ContextBegin(i + 1) - ContextBegin(i));
}

absl::Status TokenFile::Context(uint64_t i, std::vector<uint32_t>* out) const {
  if (i >= n_contexts()) {
    return OutOfRange(dir_, ": context ", i, " is out of range [0, ", n_contexts(), ")");
  }
  return Tokens(ContextBegin(i), ContextLength(i), out);
}

absl::Status TokenFile::Tokens(uint64_t begin, uint64_t count, std::vector<uint32_t>* out) const {
  if (begin > n_tokens() || count > n_tokens() - begin) {
    return OutOfRange(dir_, ": tokens [", begin, ", +", count, ") are out of range [0, ",
                      n_tokens(), ")");
  }
  out->resize(count);
  const int bytes_per_token = BytesPerToken(spec_);
  const unsigned char* bytes = tokens_.data + begin * static_cast<uint64_t>(bytes_per_token);
  const uint32_t highest =
      bytes_per_token == 2 ? CopyTokens<2>(bytes, out) : CopyTokens<4>(bytes, out);
  if (highest < spec_.vocab_size) return absl::OkStatus();
  const auto bad =
      std::find_if(out->begin(), out->end(), [&](uint32_t id) { return id >= spec_.vocab_size; });
  return absl::DataLossError(absl::StrCat(
      JoinPath(dir_, kTokensName), ": token ", begin + static_cast<uint64_t>(bad - out->begin()),
      " has id ", *bad, ", out of range [0, ", spec_.vocab_size, ")"));
}

uint64_t TokenFile::DocumentBegin(uint64_t document) const {
  return ReadLittleEndian(documents_.data + document * 8, 8);
}

uint64_t TokenFile::DocumentOf(uint64_t token_index) const {
  uint64_t low = 0;
  uint64_t high = n_documents();
  while (high - low > 1) {  // DocumentBegin(low) <= token_index < DocumentBegin(high)
    const uint64_t middle = low + (high - low) / 2;
    (DocumentBegin(middle) <= token_index ? low : high) = middle;
  }
  return low;
}

absl::Status TokenFile::Verify() const {
  const std::string hash = TokenFileHash(
      spec_, sizes_, Sha256OfMapping(tokens_.data, tokens_.size),
      Sha256OfMapping(documents_.data, documents_.size),
      contexts_.data == nullptr ? "" : Sha256OfMapping(contexts_.data, contexts_.size));
  if (hash == hash_) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(dir_, ": the corpus has hash ", hash, ", ", kSidecarName,
                                          " says ", PrintableUtf8(hash_)));
}

}  // namespace featurescope
