// What a corpus says of itself: corpus.json, and the hash over everything. For token_file.h only.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/formats/token_file.h"

namespace featurescope {

constexpr char kTokensName[] = "tokens.bin";
constexpr char kDocumentsName[] = "documents.bin";
constexpr char kContextsName[] = "contexts.bin";
constexpr char kSidecarName[] = "corpus.json";

struct TokenFileSidecar {
  TokenFileSpec spec;
  TokenFileSizes sizes;
  std::string hash;
};

// 2 or 4.
int BytesPerToken(const TokenFileSpec& spec);
// Whether there is a contexts.bin; else the contexts' places follow from the sizes.
inline bool HasContextsFile(const TokenFileSpec& spec) {
  return spec.layout != ContextLayout::kPacked;
}

// InvalidArgument naming the field and its range. `what` begins the message.
absl::Status CheckTokenFileSpec(const TokenFileSpec& spec, absl::string_view what);

// InvalidArgument naming the field: malformed, or sizes that contradict each other.
absl::StatusOr<TokenFileSidecar> ReadTokenFileSidecar(const std::string& path);
std::string TokenFileSidecarText(const TokenFileSidecar& sidecar);

// Binds what the tokens mean: parameters, tokens, boundaries. The SHA-256 are of the files;
// `contexts_sha` is empty where there is no contexts.bin.
std::string TokenFileHash(const TokenFileSpec& spec, const TokenFileSizes& sizes,
                          const std::string& tokens_sha, const std::string& documents_sha,
                          const std::string& contexts_sha);

}  // namespace featurescope
