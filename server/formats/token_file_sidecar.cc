#include "server/formats/token_file_sidecar.h"

#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/formats/json.h"
#include "server/formats/utf8.h"

namespace featurescope {
namespace {

using Json = nlohmann::json;

// Version 1 has packed contexts, BOS in front of documents, no EOS and nothing held out; corpora
// that are so are still written as it, byte by byte.
constexpr int kFirstVersion = 1;
constexpr int kVersion = 2;
constexpr uint64_t kMaxSidecarBytes = 64u << 10;
constexpr int64_t kMaxTokens = int64_t{1} << 48;

int VersionOf(const TokenFileSpec& spec, const TokenFileSizes& sizes) {
  const bool first = spec.layout == ContextLayout::kPacked && spec.document_bos && !spec.eos_id &&
                     spec.holdout == 0 && sizes.n_train_tokens == sizes.n_tokens;
  return first ? kFirstVersion : kVersion;
}

absl::string_view TokenTypeName(const TokenFileSpec& spec) {
  return BytesPerToken(spec) == 2 ? "uint16" : "uint32";
}

uint64_t ContextsOf(uint64_t n_tokens, uint32_t context_size) {
  return (n_tokens + context_size - 1) / context_size;
}

absl::StatusOr<uint32_t> TokenId(const Json& json, absl::string_view key, const std::string& path) {
  ASSIGN_OR_RETURN(const int64_t id, JsonInt(json, key, path, 0, UINT32_MAX));
  return static_cast<uint32_t>(id);
}

absl::StatusOr<TokenFileSpec> ReadSpec(const Json& json, int64_t version, const std::string& path) {
  TokenFileSpec spec;
  ASSIGN_OR_RETURN(const int64_t vocab_size, JsonInt(json, "vocab_size", path, 1, UINT32_MAX));
  ASSIGN_OR_RETURN(const int64_t context_size,
                   JsonInt(json, "context_size", path, 1, kMaxContextSize));
  spec.vocab_size = static_cast<uint32_t>(vocab_size);
  spec.context_size = static_cast<uint32_t>(context_size);
  ASSIGN_OR_RETURN(spec.prepend_bos, JsonBool(json, "prepend_bos", path));
  if (spec.prepend_bos) {
    ASSIGN_OR_RETURN(spec.bos_id, TokenId(json, "bos_id", path));
  }
  ASSIGN_OR_RETURN(spec.tokenizer_hash, JsonString(json, "tokenizer_hash", path));
  ASSIGN_OR_RETURN(spec.model_id, JsonString(json, "model_id", path));
  if (version >= 2) {
    ASSIGN_OR_RETURN(const std::string layout, JsonString(json, "layout", path));
    absl::StatusOr<ContextLayout> parsed = ParseContextLayout(layout);
    if (!parsed.ok()) return Annotate(parsed.status(), path);
    spec.layout = *parsed;
    ASSIGN_OR_RETURN(spec.document_bos, JsonBool(json, "document_bos", path));
    if (JsonFind(json, "eos_id") != nullptr) {
      ASSIGN_OR_RETURN(spec.eos_id, TokenId(json, "eos_id", path));
    }
    ASSIGN_OR_RETURN(spec.holdout, JsonFloat(json, "holdout", path));
  }
  RETURN_IF_ERROR(CheckTokenFileSpec(spec, path));
  return spec;
}

absl::StatusOr<TokenFileSizes> ReadSizes(const Json& json, int64_t version,
                                         const TokenFileSpec& spec, const std::string& path) {
  const auto size = [&](absl::string_view key, uint64_t most, uint64_t* out) -> absl::Status {
    ASSIGN_OR_RETURN(const int64_t value, JsonInt(json, key, path, 1, static_cast<int64_t>(most)));
    *out = static_cast<uint64_t>(value);
    return absl::OkStatus();
  };
  TokenFileSizes sizes;
  RETURN_IF_ERROR(size("n_tokens", kMaxTokens, &sizes.n_tokens));
  RETURN_IF_ERROR(size("n_documents", sizes.n_tokens, &sizes.n_documents));
  if (version == kFirstVersion) {
    sizes.n_contexts = ContextsOf(sizes.n_tokens, spec.context_size);
    sizes.n_train_tokens = sizes.n_tokens;
    sizes.n_train_documents = sizes.n_documents;
    sizes.n_train_contexts = sizes.n_contexts;
    return sizes;
  }
  RETURN_IF_ERROR(size("n_contexts", sizes.n_tokens, &sizes.n_contexts));
  RETURN_IF_ERROR(size("n_train_tokens", sizes.n_tokens, &sizes.n_train_tokens));
  RETURN_IF_ERROR(size("n_train_documents", sizes.n_documents, &sizes.n_train_documents));
  RETURN_IF_ERROR(size("n_train_contexts", sizes.n_contexts, &sizes.n_train_contexts));
  if (spec.layout == ContextLayout::kPacked) {
    const uint64_t n_train = ContextsOf(sizes.n_train_tokens, spec.context_size);
    const uint64_t n =
        n_train + ContextsOf(sizes.n_tokens - sizes.n_train_tokens, spec.context_size);
    if (sizes.n_train_contexts != n_train || sizes.n_contexts != n) {
      return InvalidArgument(path, ": n_train_contexts ", sizes.n_train_contexts,
                             " and n_contexts ", sizes.n_contexts, ", the tokens make ", n_train,
                             " and ", n);
    }
  }
  return sizes;
}

}  // namespace

absl::string_view ContextLayoutName(ContextLayout layout) {
  switch (layout) {
    case ContextLayout::kPacked:
      return "packed";
    case ContextLayout::kSplit:
      return "split";
    case ContextLayout::kTruncated:
      return "truncated";
  }
  return "";
}

absl::StatusOr<ContextLayout> ParseContextLayout(absl::string_view name) {
  for (const ContextLayout layout :
       {ContextLayout::kPacked, ContextLayout::kSplit, ContextLayout::kTruncated}) {
    if (name == ContextLayoutName(layout)) return layout;
  }
  return InvalidArgument("layout \"", PrintableUtf8(name),
                         "\" is none of packed, split, truncated");
}

int BytesPerToken(const TokenFileSpec& spec) { return spec.vocab_size <= 65536 ? 2 : 4; }

absl::Status CheckTokenFileSpec(const TokenFileSpec& spec, absl::string_view what) {
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
  if (spec.eos_id && *spec.eos_id >= spec.vocab_size) {
    return InvalidArgument(what, ": eos_id ", *spec.eos_id, " is out of range [0, ",
                           spec.vocab_size, ")");
  }
  if (!(spec.holdout >= 0 && spec.holdout < 1)) {
    return InvalidArgument(what, ": holdout ", spec.holdout, " is out of range [0, 1)");
  }
  return absl::OkStatus();
}

absl::StatusOr<TokenFileSidecar> ReadTokenFileSidecar(const std::string& path) {
  ASSIGN_OR_RETURN(const Json json, ReadJsonFile(path, kMaxSidecarBytes, 4));
  ASSIGN_OR_RETURN(const int64_t version, JsonInt(json, "format_version", path));
  if (version < kFirstVersion || version > kVersion) {
    return InvalidArgument(path, ": format_version ", version, ", this server reads ",
                           kFirstVersion, " to ", kVersion);
  }
  TokenFileSidecar sidecar;
  ASSIGN_OR_RETURN(sidecar.spec, ReadSpec(json, version, path));
  ASSIGN_OR_RETURN(sidecar.hash, JsonString(json, "hash", path));
  ASSIGN_OR_RETURN(const std::string dtype, JsonString(json, "dtype", path));
  if (dtype != TokenTypeName(sidecar.spec)) {
    return InvalidArgument(path, ": dtype \"", PrintableUtf8(dtype), "\", a vocab_size of ",
                           sidecar.spec.vocab_size, " is stored as ", TokenTypeName(sidecar.spec));
  }
  ASSIGN_OR_RETURN(sidecar.sizes, ReadSizes(json, version, sidecar.spec, path));
  return sidecar;
}

std::string TokenFileSidecarText(const TokenFileSidecar& sidecar) {
  const TokenFileSpec& spec = sidecar.spec;
  const TokenFileSizes& sizes = sidecar.sizes;
  const int version = VersionOf(spec, sizes);
  Json json = {
      {"format_version", version},
      {"dtype", std::string(TokenTypeName(spec))},
      {"n_tokens", sizes.n_tokens},
      {"n_documents", sizes.n_documents},
      {"vocab_size", spec.vocab_size},
      {"context_size", spec.context_size},
      {"prepend_bos", spec.prepend_bos},
      {"bos_id", spec.prepend_bos ? Json(spec.bos_id) : Json(nullptr)},
      {"tokenizer_hash", spec.tokenizer_hash},
      {"model_id", spec.model_id},
      {"hash", sidecar.hash},
  };
  if (version >= 2) {
    json.update(Json{
        {"layout", std::string(ContextLayoutName(spec.layout))},
        {"document_bos", spec.document_bos},
        {"eos_id", spec.eos_id ? Json(*spec.eos_id) : Json(nullptr)},
        {"holdout", spec.holdout},
        {"n_contexts", sizes.n_contexts},
        {"n_train_tokens", sizes.n_train_tokens},
        {"n_train_documents", sizes.n_train_documents},
        {"n_train_contexts", sizes.n_train_contexts},
    });
  }
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string TokenFileHash(const TokenFileSpec& spec, const TokenFileSizes& sizes,
                          const std::string& tokens_sha, const std::string& documents_sha,
                          const std::string& contexts_sha) {
  const int version = VersionOf(spec, sizes);
  std::string text = absl::StrCat(
      "featurescope corpus ", version, "\nvocab_size ", spec.vocab_size, "\ncontext_size ",
      spec.context_size, "\nbos ", spec.prepend_bos ? static_cast<int64_t>(spec.bos_id) : -1,
      "\ntokenizer ", spec.tokenizer_hash, "\nn_tokens ", sizes.n_tokens, "\nn_documents ",
      sizes.n_documents, "\ntokens ", tokens_sha, "\ndocuments ", documents_sha, "\n");
  if (version >= 2) {
    absl::StrAppend(&text, "layout ", ContextLayoutName(spec.layout), "\ndocument_bos ",
                    spec.document_bos ? 1 : 0, "\neos ",
                    spec.eos_id ? static_cast<int64_t>(*spec.eos_id) : -1, "\nn_contexts ",
                    sizes.n_contexts, "\nn_train_tokens ", sizes.n_train_tokens,
                    "\nn_train_documents ", sizes.n_train_documents, "\nn_train_contexts ",
                    sizes.n_train_contexts, "\ncontexts ", contexts_sha, "\n");
  }
  return Sha256Hex(text);
}

}  // namespace featurescope
