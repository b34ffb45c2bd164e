#include "server/hub/hub_files.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "server/base/status.h"

namespace featurescope {
namespace {

constexpr size_t kMaxPathBytes = 1024;
constexpr size_t kMaxPartBytes = 255;
constexpr size_t kMaxRepoBytes = 96;  // of each half

bool IsHex(absl::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

// As text from elsewhere may stand in a message.
std::string Shown(absl::string_view text) {
  return absl::StrCat("\"", absl::CHexEscape(text.substr(0, 200)), "\"");
}

}  // namespace

const HubFile* HubListing::Find(absl::string_view path) const {
  for (const HubFile& file : files) {
    if (file.path == path) return &file;
  }
  return nullptr;
}

absl::StatusOr<HubRepo> HubRepo::Parse(absl::string_view text) {
  HubRepo parsed;
  const size_t at = text.find('@');
  parsed.repo = std::string(text.substr(0, at));
  if (at != absl::string_view::npos) parsed.revision = std::string(text.substr(at + 1));
  RETURN_IF_ERROR(CheckHubRepo(parsed.repo));
  RETURN_IF_ERROR(CheckHubRevision(parsed.revision));
  return parsed;
}

absl::Status CheckHubRepo(absl::string_view repo) {
  const std::vector<absl::string_view> halves = absl::StrSplit(repo, '/');
  bool good = halves.size() <= 2;
  for (absl::string_view half : halves) {
    good = good && !half.empty() && half.size() <= kMaxRepoBytes && half.front() != '.' &&
           half.front() != '-' && half.back() != '.' && !absl::StrContains(half, "--") &&
           !absl::StrContains(half, "..");
    for (char c : half) good = good && (absl::ascii_isalnum(c) || c == '-' || c == '_' || c == '.');
  }
  if (good) return absl::OkStatus();
  return InvalidArgument(Shown(repo), " is no name of a repository, such as openai-community/gpt2");
}

absl::Status CheckHubRevision(absl::string_view revision) {
  bool good = CheckHubPath(revision).ok() && revision.size() <= kMaxPartBytes;
  for (char c : revision) good = good && c != ' ' && c != '~' && c != '^' && c != ':' && c != '?';
  if (good) return absl::OkStatus();
  return InvalidArgument(Shown(revision),
                         " is no revision: give a branch, a tag, a commit or refs/pr/NUMBER");
}

absl::Status CheckHubPath(absl::string_view path) {
  bool good = !path.empty() && path.size() <= kMaxPathBytes;
  for (char c : path) {
    good = good && c != '\\' && !absl::ascii_iscntrl(static_cast<unsigned char>(c));
  }
  for (absl::string_view part : absl::StrSplit(path, '/')) {
    good = good && !part.empty() && part.size() <= kMaxPartBytes && part != "." && part != "..";
  }
  if (good) return absl::OkStatus();
  return InvalidArgument(Shown(path), " is refused as a file name of a repository");
}

bool IsContentHash(absl::string_view etag) {
  return (etag.size() == 40 || etag.size() == 64) && IsHex(etag);
}

bool IsCommitHash(absl::string_view text) { return text.size() == 40 && IsHex(text); }

std::string NormalizeEtag(absl::string_view header) {
  absl::ConsumePrefix(&header, "W/");
  absl::ConsumePrefix(&header, "\"");
  absl::ConsumeSuffix(&header, "\"");
  return absl::AsciiStrToLower(header);
}

}  // namespace featurescope
