#include "server/hub/hub_replies.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "server/base/status.h"
#include "server/formats/json.h"

namespace featurescope {
namespace {

constexpr size_t kMaxFiles = 200000;
constexpr int64_t kMaxFileBytes = int64_t{1} << 50;
constexpr size_t kMaxSaidBytes = 300;

absl::Status AddFile(std::string path, int64_t size, std::string etag, absl::string_view what,
                     std::vector<HubFile>* files) {
  if (const absl::Status status = CheckHubPath(path); !status.ok()) return Annotate(status, what);
  if (files->size() == kMaxFiles) {
    return ResourceExhausted(what, ": lists more than ", kMaxFiles, " files");
  }
  if (!IsContentHash(etag)) etag.clear();
  files->push_back({std::move(path), static_cast<uint64_t>(size), std::move(etag)});
  return absl::OkStatus();
}

// {"lfs": {"<hash_key>": SHA-256, "size": bytes}}, which stands for the content where it is there.
absl::Status ReadLfs(const nlohmann::json& entry, absl::string_view hash_key,
                     absl::string_view what, int64_t* size, std::string* etag) {
  const nlohmann::json* lfs = JsonFind(entry, "lfs");
  if (lfs == nullptr) return absl::OkStatus();
  ASSIGN_OR_RETURN(*size, JsonInt(*lfs, "size", what, 0, kMaxFileBytes));
  ASSIGN_OR_RETURN(*etag, JsonString(*lfs, hash_key, what));
  return absl::OkStatus();
}

// Of all answers on the way, the first that has the field: it is the hub's own.
const std::string* FirstHeader(const HttpAnswer& response, absl::string_view name) {
  for (const HttpHeaders& headers : response.redirects) {
    if (const std::string* value = headers.Find(name)) return value;
  }
  return response.headers.Find(name);
}

absl::Status CheckCommit(const HttpAnswer& response, absl::string_view commit,
                         absl::string_view path) {
  const std::string* said = FirstHeader(response, "x-repo-commit");
  if (said == nullptr || *said == commit) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(path, ": the hub answers with commit ",
                                          absl::CHexEscape(*said), ", asked for was ", commit));
}

}  // namespace

absl::StatusOr<std::string> ParseCommit(absl::string_view json, absl::string_view what) {
  ASSIGN_OR_RETURN(const nlohmann::json answer, ParseJson(json, what));
  ASSIGN_OR_RETURN(std::string commit, JsonString(answer, "sha", what));
  if (!IsCommitHash(commit)) {
    return InvalidArgument(what, ": sha \"", absl::CHexEscape(commit), "\" is no commit");
  }
  return commit;
}

absl::Status AppendSiblings(absl::string_view json, absl::string_view what,
                            std::vector<HubFile>* files) {
  ASSIGN_OR_RETURN(const nlohmann::json answer, ParseJson(json, what));
  const nlohmann::json* siblings = JsonFind(answer, "siblings");
  if (siblings == nullptr || !siblings->is_array()) {
    return InvalidArgument(what, ": has no list \"siblings\"");
  }
  for (const nlohmann::json& entry : *siblings) {
    ASSIGN_OR_RETURN(std::string path, JsonString(entry, "rfilename", what));
    ASSIGN_OR_RETURN(int64_t size, JsonIntOr(entry, "size", what, 0, 0, kMaxFileBytes));
    ASSIGN_OR_RETURN(std::string etag, JsonStringOr(entry, "blobId", what, ""));
    RETURN_IF_ERROR(ReadLfs(entry, "sha256", what, &size, &etag));
    RETURN_IF_ERROR(AddFile(std::move(path), size, std::move(etag), what, files));
  }
  return absl::OkStatus();
}

absl::Status AppendTree(absl::string_view json, absl::string_view what,
                        std::vector<HubFile>* files) {
  ASSIGN_OR_RETURN(const nlohmann::json answer, ParseJson(json, what));
  if (!answer.is_array()) return InvalidArgument(what, ": is no list of files");
  for (const nlohmann::json& entry : answer) {
    ASSIGN_OR_RETURN(const std::string type, JsonString(entry, "type", what));
    if (type != "file") continue;
    ASSIGN_OR_RETURN(std::string path, JsonString(entry, "path", what));
    ASSIGN_OR_RETURN(int64_t size, JsonInt(entry, "size", what, 0, kMaxFileBytes));
    ASSIGN_OR_RETURN(std::string etag, JsonStringOr(entry, "oid", what, ""));
    RETURN_IF_ERROR(ReadLfs(entry, "oid", what, &size, &etag));
    RETURN_IF_ERROR(AddFile(std::move(path), size, std::move(etag), what, files));
  }
  return absl::OkStatus();
}

std::string NextPage(absl::string_view link) {
  for (absl::string_view part : absl::StrSplit(link, ',')) {
    const size_t open = part.find('<');
    const size_t close = part.find('>');
    if (open == absl::string_view::npos || close == absl::string_view::npos || close < open) {
      continue;
    }
    const std::string rest = absl::AsciiStrToLower(part.substr(close + 1));
    if (absl::StrContains(rest, "rel=\"next\"") || absl::StrContains(rest, "rel=next")) {
      return std::string(part.substr(open + 1, close - open - 1));
    }
  }
  return "";
}

absl::Status ReadFileHeaders(const HttpAnswer& response, absl::string_view commit, HubFile* file) {
  RETURN_IF_ERROR(CheckCommit(response, commit, file->path));
  const std::string* etag = FirstHeader(response, "x-linked-etag");
  if (etag == nullptr) etag = response.headers.Find("etag");
  const std::string* size = FirstHeader(response, "x-linked-size");
  if (size == nullptr && response.status == 200) size = response.headers.Find("content-length");
  if (etag != nullptr) file->etag = NormalizeEtag(*etag);
  if (size == nullptr || !absl::SimpleAtoi(*size, &file->size)) {
    return FailedPrecondition(file->path, ": the hub does not say how large it is");
  }
  return absl::OkStatus();
}

absl::Status CheckFileHeaders(const HttpAnswer& response, absl::string_view commit,
                              const HubFile& file) {
  RETURN_IF_ERROR(CheckCommit(response, commit, file.path));
  const std::string* etag = FirstHeader(response, "x-linked-etag");
  if (etag != nullptr && NormalizeEtag(*etag) != file.etag) {
    return absl::DataLossError(absl::StrCat(file.path, ": the hub answers with content ",
                                            absl::CHexEscape(*etag), ", expected was ", file.etag));
  }
  std::vector<const std::string*> sizes = {FirstHeader(response, "x-linked-size")};
  if (response.status == 200) sizes.push_back(response.headers.Find("content-length"));
  for (const std::string* size : sizes) {
    uint64_t bytes = 0;
    if (size != nullptr && absl::SimpleAtoi(*size, &bytes) && bytes != file.size) {
      return absl::DataLossError(absl::StrCat(file.path, ": the hub answers with ", bytes,
                                              " bytes, expected were ", file.size));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckRange(const HttpAnswer& response, uint64_t start, const HubFile& file) {
  const std::string* header = response.headers.Find("content-range");
  absl::string_view range;
  if (header != nullptr) range = *header;
  uint64_t begin = 0, total = 0;
  if (absl::ConsumePrefix(&range, "bytes ")) {
    const std::pair<absl::string_view, absl::string_view> halves = absl::StrSplit(range, '/');
    const size_t dash = halves.first.find('-');
    if (dash != absl::string_view::npos && absl::SimpleAtoi(halves.first.substr(0, dash), &begin) &&
        absl::SimpleAtoi(halves.second, &total) && begin == start && total == file.size) {
      return absl::OkStatus();
    }
  }
  return absl::DataLossError(
      absl::StrCat(file.path, ": asked for bytes from ", start, " of ", file.size, ", got \"",
                   header == nullptr ? "" : absl::CHexEscape(*header), "\""));
}

absl::Duration RetryAfter(const HttpHeaders& headers, absl::Time now) {
  if (const std::string* text = headers.Find("retry-after")) {
    int64_t seconds = 0;
    if (absl::SimpleAtoi(*text, &seconds)) return absl::Seconds(std::max<int64_t>(seconds, 0));
    absl::Time date;
    if (absl::ParseTime("%a, %d %b %Y %H:%M:%S GMT", *text, &date, nullptr)) {
      return std::max(date - now, absl::ZeroDuration());
    }
  }
  if (const std::string* text = headers.Find("ratelimit")) {  // "api";r=0;t=55
    for (absl::string_view part : absl::StrSplit(*text, ';')) {
      part = absl::StripAsciiWhitespace(part);
      int64_t seconds = 0;
      if (absl::ConsumePrefix(&part, "t=") && absl::SimpleAtoi(part, &seconds)) {
        return absl::Seconds(std::max<int64_t>(seconds, 0));
      }
    }
  }
  return absl::ZeroDuration();
}

std::string ErrorText(const HttpAnswer& response) {
  std::string text;
  if (const std::string* message = response.headers.Find("x-error-message")) {
    text = *message;
  } else if (const auto json = ParseJson(response.body, "answer"); json.ok()) {
    const nlohmann::json* error = JsonFind(*json, "error");
    if (error != nullptr && error->is_string()) text = error->get<std::string>();
  }
  return absl::CHexEscape(text.substr(0, kMaxSaidBytes));
}

}  // namespace featurescope
