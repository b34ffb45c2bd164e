#include "server/formats/token_file.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/formats/json.h"
#include "server/formats/utf8.h"

namespace featurescope {
namespace {

using Json = nlohmann::json;

constexpr int kFormatVersion = 1;
constexpr char kTokensName[] = "tokens.bin";
constexpr char kDocumentsName[] = "documents.bin";
constexpr char kSidecarName[] = "corpus.json";
constexpr uint64_t kMaxSidecarBytes = 64u << 10;
constexpr uint64_t kMaxTokens = uint64_t{1} << 48;

int BytesPerToken(uint32_t vocab_size) { return vocab_size <= 65536 ? 2 : 4; }
absl::string_view TokenTypeName(int bytes_per_token) {
  return bytes_per_token == 2 ? "uint16" : "uint32";
}

absl::Status CheckSpec(const TokenFileSpec& spec, absl::string_view what) {
  if (spec.vocab_size == 0) return InvalidArgument(what, ": vocab_size is 0");
  const uint32_t least = spec.prepend_bos ? 2 : 1;
  if (spec.context_size < least || spec.context_size > kMaxContextSize) {
    return InvalidArgument(what, ": context_size ", spec.context_size, " is out of range [", least,
                           ", ", kMaxContextSize, "]");
  }
  if (spec.prepend_bos && spec.bos_id >= spec.vocab_size) {
    return InvalidArgument(what, ": bos_id ", spec.bos_id, " is out of range [0, ", spec.vocab_size,
                           ")");
  }
  return absl::OkStatus();
}

// The hash binds what the tokens mean: parameters, tokens, document boundaries.
std::string CorpusHash(const TokenFileSpec& spec, uint64_t n_tokens, uint64_t n_documents,
                       const std::string& tokens_sha, const std::string& documents_sha) {
  return Sha256Hex(absl::StrCat(
      "featurescope corpus ", kFormatVersion, "\nvocab_size ", spec.vocab_size, "\ncontext_size ",
      spec.context_size, "\nbos ", spec.prepend_bos ? static_cast<int64_t>(spec.bos_id) : -1,
      "\ntokenizer ", spec.tokenizer_hash, "\nn_tokens ", n_tokens, "\nn_documents ", n_documents,
      "\ntokens ", tokens_sha, "\ndocuments ", documents_sha, "\n"));
}

void AppendLittleEndian(uint64_t value, int bytes, std::string* out) {
  for (int i = 0; i < bytes; ++i) out->push_back(static_cast<char>(value >> (8 * i)));
}

uint64_t ReadLittleEndian(const unsigned char* bytes, int n) {
  uint64_t value = 0;
  for (int i = 0; i < n; ++i) value |= uint64_t{bytes[i]} << (8 * i);
  return value;
}

absl::string_view View(const unsigned char* data, uint64_t size) {
  return absl::string_view(reinterpret_cast<const char*>(data), size);
}

}  // namespace

TokenFileWriter::TokenFileWriter(std::string dir, TokenFileSpec spec, AtomicFile tokens,
                                 AtomicFile documents)
    : dir_(std::move(dir)),
      spec_(std::move(spec)),
      tokens_(std::move(tokens)),
      documents_(std::move(documents)) {}

absl::StatusOr<TokenFileWriter> TokenFileWriter::Create(const std::string& dir,
                                                        TokenFileSpec spec) {
  RETURN_IF_ERROR(CheckSpec(spec, dir));
  RETURN_IF_ERROR(EnsureDir(dir));
  if (FileExists(JoinPath(dir, kSidecarName))) {
    return AlreadyExists(dir, ": holds a corpus already");
  }
  ASSIGN_OR_RETURN(AtomicFile tokens, AtomicFile::Create(JoinPath(dir, kTokensName)));
  ASSIGN_OR_RETURN(AtomicFile documents, AtomicFile::Create(JoinPath(dir, kDocumentsName)));
  return TokenFileWriter(dir, std::move(spec), std::move(tokens), std::move(documents));
}

void TokenFileWriter::Push(uint32_t id) {
  AppendLittleEndian(id, BytesPerToken(spec_.vocab_size), &pending_);
  ++n_tokens_;
}

absl::Status TokenFileWriter::AppendDocument(absl::Span<const uint32_t> ids) {
  if (ids.empty()) return absl::OkStatus();
  for (uint32_t id : ids) {
    if (id >= spec_.vocab_size) {
      return InvalidArgument(dir_, ": document ", n_documents_, ": token id ", id,
                             " is out of range [0, ", spec_.vocab_size, ")");
    }
  }
  std::string offset;
  AppendLittleEndian(n_tokens_, 8, &offset);
  RETURN_IF_ERROR(documents_.Append(offset));
  document_sha_.Update(offset);
  ++n_documents_;

  if (spec_.prepend_bos) Push(spec_.bos_id);
  for (uint32_t id : ids) {
    if (spec_.prepend_bos && n_tokens_ % spec_.context_size == 0) Push(spec_.bos_id);
    Push(id);
  }
  RETURN_IF_ERROR(tokens_.Append(pending_));
  sha_.Update(pending_);
  pending_.clear();
  return absl::OkStatus();
}

absl::Status TokenFileWriter::Finish() {
  if (n_tokens_ == 0) return InvalidArgument(dir_, ": the corpus has no tokens");
  const std::string tokens_sha = sha_.HexDigest();
  hash_ = CorpusHash(spec_, n_tokens_, n_documents_, tokens_sha, document_sha_.HexDigest());
  Json sidecar = {
      {"format_version", kFormatVersion},
      {"dtype", std::string(TokenTypeName(BytesPerToken(spec_.vocab_size)))},
      {"n_tokens", n_tokens_},
      {"n_documents", n_documents_},
      {"vocab_size", spec_.vocab_size},
      {"context_size", spec_.context_size},
      {"prepend_bos", spec_.prepend_bos},
      {"bos_id", spec_.prepend_bos ? Json(spec_.bos_id) : Json(nullptr)},
      {"tokenizer_hash", spec_.tokenizer_hash},
      {"model_id", spec_.model_id},
      {"hash", hash_},
  };
  absl::Status status = tokens_.Commit();
  if (status.ok()) status = documents_.Commit();
  if (status.ok()) {
    status =
        WriteFileAtomically(JoinPath(dir_, kSidecarName),
                            sidecar.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
  }
  if (!status.ok()) {  // a corpus is there as a whole or not at all
    unlink(tokens_.path().c_str());
    unlink(documents_.path().c_str());
  }
  return status;
}

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
  ASSIGN_OR_RETURN(const Json json, ReadJsonFile(path, kMaxSidecarBytes, 4));
  ASSIGN_OR_RETURN(const int64_t version, JsonInt(json, "format_version", path));
  if (version != kFormatVersion) {
    return InvalidArgument(path, ": format_version ", version, ", this server reads ",
                           kFormatVersion);
  }
  std::shared_ptr<TokenFile> file(new TokenFile());
  TokenFileSpec& spec = file->spec_;
  file->dir_ = dir;
  ASSIGN_OR_RETURN(const int64_t vocab_size, JsonInt(json, "vocab_size", path, 1, UINT32_MAX));
  ASSIGN_OR_RETURN(const int64_t context_size,
                   JsonInt(json, "context_size", path, 1, kMaxContextSize));
  ASSIGN_OR_RETURN(spec.prepend_bos, JsonBool(json, "prepend_bos", path));
  if (spec.prepend_bos) {
    ASSIGN_OR_RETURN(const int64_t bos_id, JsonInt(json, "bos_id", path, 0, UINT32_MAX));
    spec.bos_id = static_cast<uint32_t>(bos_id);
  }
  spec.vocab_size = static_cast<uint32_t>(vocab_size);
  spec.context_size = static_cast<uint32_t>(context_size);
  RETURN_IF_ERROR(CheckSpec(spec, path));
  ASSIGN_OR_RETURN(spec.tokenizer_hash, JsonString(json, "tokenizer_hash", path));
  ASSIGN_OR_RETURN(spec.model_id, JsonString(json, "model_id", path));
  ASSIGN_OR_RETURN(file->hash_, JsonString(json, "hash", path));
  ASSIGN_OR_RETURN(const std::string dtype, JsonString(json, "dtype", path));
  file->bytes_per_token_ = BytesPerToken(spec.vocab_size);
  if (dtype != TokenTypeName(file->bytes_per_token_)) {
    return InvalidArgument(path, ": dtype \"", PrintableUtf8(dtype), "\", a vocab_size of ",
                           spec.vocab_size, " is stored as ",
                           TokenTypeName(file->bytes_per_token_));
  }
  ASSIGN_OR_RETURN(const int64_t n_tokens, JsonInt(json, "n_tokens", path, 1, kMaxTokens));
  ASSIGN_OR_RETURN(const int64_t n_documents, JsonInt(json, "n_documents", path, 1, n_tokens));
  file->n_tokens_ = static_cast<uint64_t>(n_tokens);
  file->n_documents_ = static_cast<uint64_t>(n_documents);
  ASSIGN_OR_RETURN(file->tokens_,
                   Map(JoinPath(dir, kTokensName),
                       file->n_tokens_ * static_cast<uint64_t>(file->bytes_per_token_)));
  ASSIGN_OR_RETURN(file->documents_, Map(JoinPath(dir, kDocumentsName), file->n_documents_ * 8));
  RETURN_IF_ERROR(file->CheckDocuments());
  return std::shared_ptr<const TokenFile>(std::move(file));
}

absl::Status TokenFile::CheckDocuments() const {
  uint64_t last = 0;
  for (uint64_t i = 0; i < n_documents_; ++i) {
    const uint64_t begin = DocumentBegin(i);
    if ((i == 0) != (begin == 0) || (i > 0 && begin <= last) || begin >= n_tokens_) {
      return absl::DataLossError(absl::StrCat(JoinPath(dir_, kDocumentsName), ": document ", i,
                                              " begins at token ", begin, ", the one before at ",
                                              last, ", the corpus has ", n_tokens_, " tokens"));
    }
    last = begin;
  }
  return absl::OkStatus();
}

TokenFile::~TokenFile() {
  for (const Mapping& mapping : {tokens_, documents_}) {
    if (mapping.data != nullptr) {
      munmap(const_cast<unsigned char*>(mapping.data), mapping.size);
    }
  }
}

uint64_t TokenFile::n_contexts() const {
  return (n_tokens_ + spec_.context_size - 1) / spec_.context_size;
}

absl::Status TokenFile::Context(uint64_t i, std::vector<uint32_t>* out) const {
  if (i >= n_contexts()) {
    return OutOfRange(dir_, ": context ", i, " is out of range [0, ", n_contexts(), ")");
  }
  const uint64_t begin = i * spec_.context_size;
  return Tokens(begin, std::min<uint64_t>(spec_.context_size, n_tokens_ - begin), out);
}

absl::Status TokenFile::Tokens(uint64_t begin, uint64_t count, std::vector<uint32_t>* out) const {
  if (begin > n_tokens_ || count > n_tokens_ - begin) {
    return OutOfRange(dir_, ": tokens [", begin, ", +", count, ") are out of range [0, ", n_tokens_,
                      ")");
  }
  out->resize(count);
  const unsigned char* bytes = tokens_.data + begin * static_cast<uint64_t>(bytes_per_token_);
  uint32_t highest = 0;
  for (uint64_t i = 0; i < count; ++i, bytes += bytes_per_token_) {
    const uint32_t id = static_cast<uint32_t>(ReadLittleEndian(bytes, bytes_per_token_));
    (*out)[i] = id;
    highest = std::max(highest, id);
  }
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
  uint64_t high = n_documents_;
  while (high - low > 1) {  // DocumentBegin(low) <= token_index < DocumentBegin(high)
    const uint64_t middle = low + (high - low) / 2;
    (DocumentBegin(middle) <= token_index ? low : high) = middle;
  }
  return low;
}

absl::Status TokenFile::Verify() const {
  const std::string hash =
      CorpusHash(spec_, n_tokens_, n_documents_, Sha256Hex(View(tokens_.data, tokens_.size)),
                 Sha256Hex(View(documents_.data, documents_.size)));
  if (hash == hash_) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(dir_, ": the corpus has hash ", hash, ", ", kSidecarName,
                                          " says ", PrintableUtf8(hash_)));
}

}  // namespace featurescope
