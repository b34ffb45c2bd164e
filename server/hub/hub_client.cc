#include "server/hub/hub_client.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "server/base/log.h"
#include "server/base/status.h"
#include "server/hub/hub_replies.h"

namespace featurescope {
namespace {

constexpr uint64_t kMaxApiBytes = 64u << 20;
constexpr int kMaxPages = 2000;
constexpr uint64_t kProgressBytes = 1u << 20;

}  // namespace

HubClient::HubClient(const HubOptions& options, Check check)
    : options_(options),
      check_(std::move(check)),
      session_({options.ca_file, options.connect_timeout, options.stall_timeout}) {}

std::string HubClient::ApiUrl(const std::string& repo, absl::string_view rest) const {
  return absl::StrCat(options_.endpoint, "/api/models/", repo, rest);
}

std::string HubClient::FileUrl(const std::string& repo, const std::string& commit,
                               const std::string& path) const {
  return absl::StrCat(options_.endpoint, "/", repo, "/resolve/", PercentEncode(commit), "/",
                      PercentEncode(path, "/"));
}

bool HubClient::IsOfHub(const std::string& url) const {
  const absl::StatusOr<HttpOrigin> hub = HttpOrigin::Of(options_.endpoint);
  const absl::StatusOr<HttpOrigin> of = HttpOrigin::Of(url);
  return hub.ok() && of.ok() && *hub == *of;
}

absl::Status HubClient::Wait(absl::Duration duration) {
  const absl::Time end = absl::Now() + duration;
  while (true) {
    RETURN_IF_ERROR(check_());
    const absl::Duration left = end - absl::Now();
    if (left <= absl::ZeroDuration()) return absl::OkStatus();
    absl::SleepFor(std::min(left, absl::Milliseconds(50)));
  }
}

absl::Status HubClient::Repeat(const std::function<Outcome()>& attempt,
                               const std::function<uint64_t()>& progress) {
  const HubRetryPolicy& policy = options_.retry;
  uint64_t mark = progress ? progress() : 0;
  absl::Duration delay = policy.base_delay;
  for (int made = 1;; ++made) {
    const Outcome outcome = attempt();
    if (outcome.status.ok() || !outcome.retry) return outcome.status;
    if (progress && progress() >= mark + kProgressBytes) {
      mark = progress();
      made = 1;
      delay = policy.base_delay;
    }
    if (made >= policy.max_attempts || outcome.retry_after > policy.max_retry_after) {
      return outcome.status;
    }
    RETURN_IF_ERROR(Wait(std::max(delay, outcome.retry_after)));
    delay = std::min(delay * 2, policy.max_delay);
  }
}

// What an answer other than 200 or 206 means for the attempt.
HubClient::Outcome HubClient::Judge(const HttpAnswer& response, const std::string& repo,
                                    const std::string& what) {
  Outcome outcome;
  outcome.status = Refusal(response, repo, what);
  outcome.retry_after = RetryAfter(response.headers, absl::Now());
  const int status = response.status;
  outcome.retry = status == 408 || status == 429 || status >= 500;
  if (status == 403) {  // a signed address ages: the hub gives out another
    outcome.retry = !IsOfHub(response.url);
  }
  return outcome;
}

absl::Status HubClient::Refusal(const HttpAnswer& response, const std::string& repo,
                                const std::string& what) const {
  const std::string subject =
      what.empty() ? repo : absl::StrCat(repo, ": ", absl::CHexEscape(what));
  const std::string said = ErrorText(response);
  const std::string by_hub = said.empty() ? "" : absl::StrCat("; the hub says: ", said);
  const std::string* code = response.headers.Find("x-error-code");
  const std::string page = absl::StrCat(options_.endpoint, "/", repo);
  const bool gated = code != nullptr && *code == "GatedRepo";
  const std::string token =
      options_.token.empty()
          ? "no token was sent: set HF_TOKEN"
          : absl::StrCat("the token from ", options_.token_source, " was sent and is not enough");
  switch (response.status) {
    case 401:
    case 403:
      if (gated) {
        return absl::PermissionDeniedError(absl::StrCat(subject, " is gated: ask for access at ",
                                                        page, " and try again (", token, ")"));
      }
      return absl::PermissionDeniedError(absl::StrCat(subject, ": HTTP ", response.status,
                                                      ": private, or there is no such repository (",
                                                      token, ")", by_hub));
    case 404:
      if (code != nullptr && *code == "RevisionNotFound") {
        return NotFound(repo, " has no revision ", absl::CHexEscape(what), by_hub);
      }
      if (code != nullptr && *code == "RepoNotFound") {
        return NotFound("there is no repository ", page,
                        options_.token.empty() ? ", or it is private: set HF_TOKEN" : "");
      }
      return NotFound(subject, ": not found at ", options_.endpoint, by_hub);
    case 429: {
      const absl::Duration wait = RetryAfter(response.headers, absl::Now());
      return ResourceExhausted(
          subject, ": the hub limits the rate of requests",
          wait > absl::ZeroDuration()
              ? absl::StrCat("; try again in ",
                             absl::FormatDuration(absl::Ceil(wait, absl::Seconds(1))))
              : std::string(),
          options_.token.empty() ? "; with a token (HF_TOKEN) the limits are higher" : "");
    }
    default:
      if (response.status >= 500 || response.status == 408) {
        return absl::UnavailableError(
            absl::StrCat(ShownUrl(response.url), ": HTTP ", response.status, by_hub));
      }
      return FailedPrecondition(ShownUrl(response.url), ": HTTP ", response.status, by_hub);
  }
}

absl::StatusOr<HttpAnswer> HubClient::Get(HttpRequest request, const std::string& repo,
                                          const std::string& what) {
  if (IsOfHub(request.url)) request.token = options_.token;
  request.check = check_;
  absl::StatusOr<HttpAnswer> response;
  RETURN_IF_ERROR(Repeat([&]() -> Outcome {
    response = session_.Send(request);
    if (!response.ok()) return {response.status(), absl::IsUnavailable(response.status())};
    // A redirect that is not followed is an answer too.
    const bool good =
        response->status == 200 || (!request.leave_origin && response->status / 100 == 3);
    return good ? Outcome{} : Judge(*response, repo, what);
  }));
  return response;
}

absl::StatusOr<HubListing> HubClient::List(const std::string& repo, const std::string& revision) {
  RETURN_IF_ERROR(CheckHubRepo(repo));
  RETURN_IF_ERROR(CheckHubRevision(revision));
  HubListing listing;
  listing.repo = repo;
  HttpRequest request;
  request.url = ApiUrl(repo, absl::StrCat("/revision/", PercentEncode(revision)));
  request.max_body_bytes = kMaxApiBytes;
  ASSIGN_OR_RETURN(const HttpAnswer response, Get(std::move(request), repo, revision));
  ASSIGN_OR_RETURN(listing.commit, ParseCommit(response.body, ShownUrl(response.url)));
  const absl::Status tree = ListTree(&listing);
  // Mirrors often lack this call; the older one has no pages.
  if (absl::IsNotFound(tree) || absl::IsFailedPrecondition(tree)) {
    listing.files.clear();
    RETURN_IF_ERROR(ListSiblings(revision, &listing));
  } else {
    RETURN_IF_ERROR(tree);
  }
  std::sort(listing.files.begin(), listing.files.end(),
            [](const HubFile& a, const HubFile& b) { return a.path < b.path; });
  return listing;
}

absl::Status HubClient::ListTree(HubListing* listing) {
  std::string url =
      ApiUrl(listing->repo, absl::StrCat("/tree/", listing->commit, "?recursive=true"));
  for (int page = 0; page < kMaxPages; ++page) {
    HttpRequest request;
    request.url = url;
    request.max_body_bytes = kMaxApiBytes;
    ASSIGN_OR_RETURN(const HttpAnswer response, Get(std::move(request), listing->repo, ""));
    RETURN_IF_ERROR(AppendTree(response.body, ShownUrl(response.url), &listing->files));
    const std::string* link = response.headers.Find("link");
    const std::string next = link == nullptr ? "" : NextPage(*link);
    if (next.empty()) return absl::OkStatus();
    ASSIGN_OR_RETURN(url, FollowUrl(response.url, next));
  }
  return ResourceExhausted(listing->repo, ": the list of files has more than ", kMaxPages,
                           " pages");
}

absl::Status HubClient::ListSiblings(const std::string& revision, HubListing* listing) {
  HttpRequest request;
  request.url = ApiUrl(listing->repo, absl::StrCat("/revision/", listing->commit, "?blobs=true"));
  request.max_body_bytes = kMaxApiBytes;
  ASSIGN_OR_RETURN(const HttpAnswer response, Get(std::move(request), listing->repo, revision));
  return AppendSiblings(response.body, ShownUrl(response.url), &listing->files);
}

absl::StatusOr<HubFile> HubClient::Resolve(const std::string& repo, const std::string& commit,
                                           const std::string& path) {
  RETURN_IF_ERROR(CheckHubPath(path));
  HttpRequest request;
  request.url = FileUrl(repo, commit, path);
  request.head = true;
  request.leave_origin = false;
  ASSIGN_OR_RETURN(const HttpAnswer response, Get(std::move(request), repo, path));
  HubFile file;
  file.path = path;
  RETURN_IF_ERROR(ReadFileHeaders(response, commit, &file));
  if (!IsContentHash(file.etag)) {
    return FailedPrecondition(repo, ": ", path, ": ", options_.endpoint,
                              " gives no hash of its content");
  }
  return file;
}

absl::Status HubClient::Download(const std::string& repo, const std::string& commit,
                                 const HubFile& file, DownloadSink* sink) {
  HttpRequest request;
  request.url = FileUrl(repo, commit, file.path);
  request.token = options_.token;
  request.check = check_;
  request.on_start = [&](const HttpAnswer& response) -> absl::Status {
    RETURN_IF_ERROR(CheckFileHeaders(response, commit, file));
    // Without a range of ours the answer is the whole file.
    if (response.status == 200 && sink->size() > 0) return sink->Restart();
    if (response.status == 206) return CheckRange(response, sink->size(), file);
    return absl::OkStatus();
  };
  request.on_body = [&](absl::string_view bytes) { return sink->Append(bytes); };

  const auto attempt = [&]() -> Outcome {
    if (sink->size() == file.size) return {};
    request.headers.clear();
    if (sink->size() > 0) request.headers = {absl::StrCat("Range: bytes=", sink->size(), "-")};
    const absl::StatusOr<HttpAnswer> response = session_.Send(request);
    if (!response.ok()) return {response.status(), absl::IsUnavailable(response.status())};
    if (response->status == 416) {  // what we hold is longer than what the hub has
      if (absl::Status status = sink->Restart(); !status.ok()) return {status};
      return {absl::DataLossError(absl::StrCat(repo, ": ", file.path, ": the hub has fewer than ",
                                               file.size, " bytes")),
              true};
    }
    if (response->status != 200 && response->status != 206) {
      return Judge(*response, repo, file.path);
    }
    if (sink->size() == file.size) return {};
    return {absl::UnavailableError(absl::StrCat(ShownUrl(response->url), ": ends after ",
                                                sink->size(), " of ", file.size, " bytes")),
            true};
  };
  return Repeat(attempt, [&] { return sink->size(); });
}

}  // namespace featurescope
