#include "tests/hub/fake_hub.h"

#include <atomic>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/base/hash.h"
#include "server/hub/sha1.h"

namespace featurescope {
namespace {

std::string PercentDecode(const std::string& text) {
  std::string decoded;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size()) {
      decoded.push_back(static_cast<char>(std::stoi(text.substr(i + 1, 2), nullptr, 16)));
      i += 2;
    } else {
      decoded.push_back(text[i]);
    }
  }
  return decoded;
}

TestReply Error(int status, const std::string& code, const std::string& message) {
  return {status, {{"X-Error-Code", code}, {"X-Error-Message", message}}, "{}"};
}

TestReply Json(const nlohmann::json& json) {
  return {200, {{"Content-Type", "application/json"}}, json.dump()};
}

}  // namespace

TestReply ServeContent(const TestRequest& request, const std::string& content) {
  TestReply reply;
  unsigned long long start = 0;
  if (std::sscanf(request.Header("range").c_str(), "bytes=%llu-", &start) != 1) {
    reply.body = content;
    return reply;
  }
  if (start >= content.size()) {
    reply.status = 416;
    reply.headers = {{"Content-Range", absl::StrCat("bytes */", content.size())}};
    return reply;
  }
  reply.status = 206;
  reply.headers = {{"Content-Range",
                    absl::StrCat("bytes ", start, "-", content.size() - 1, "/", content.size())}};
  reply.body = content.substr(start);
  return reply;
}

FakeHub::Intercept FirstTimes(int times, const std::string& part, TestReply reply) {
  auto left = std::make_shared<std::atomic<int>>(times);
  return [left, part, reply](const TestRequest& request) -> std::optional<TestReply> {
    if (!absl::StrContains(request.target, part) || left->fetch_sub(1) <= 0) return std::nullopt;
    return reply;
  };
}

FakeHub::FakeHub()
    : cdn_(std::make_unique<HttpTestServer>(
          [this](const TestRequest& request) { return ServeCdn(request); })),
      hub_(std::make_unique<HttpTestServer>(
          [this](const TestRequest& request) { return ServeHub(request); })) {}

void FakeHub::Edit(const std::function<void(State&)>& edit) {
  MutexLock lock(&mutex_);
  edit(state_);
}

void FakeHub::InterceptHub(Intercept intercept) {
  MutexLock lock(&mutex_);
  hub_intercept_ = std::move(intercept);
}

void FakeHub::InterceptCdn(Intercept intercept) {
  MutexLock lock(&mutex_);
  cdn_intercept_ = std::move(intercept);
}

std::vector<TestRequest> FakeHub::Requests(const std::string& part) const {
  std::vector<TestRequest> found;
  for (const HttpTestServer* server : {hub_.get(), cdn_.get()}) {
    for (const TestRequest& request : server->requests()) {
      if (absl::StrContains(request.target, part)) found.push_back(request);
    }
  }
  return found;
}

HubOptions FakeHub::Options(const std::string& cache_dir) const {
  HubOptions options;
  options.endpoint = endpoint();
  options.cache_dir = cache_dir;
  options.connect_timeout = absl::Seconds(20);  // a loaded machine is slow, not gone
  options.stall_timeout = absl::Seconds(20);
  options.retry.base_delay = absl::Milliseconds(2);
  options.retry.max_delay = absl::Milliseconds(10);
  return options;
}

std::string FakeHub::Hash(const FakeFile& file) {
  if (file.lfs) return Sha256Hex(file.content);
  Sha1 sha;
  sha.Update(absl::StrCat("blob ", file.content.size()));
  sha.Update(absl::string_view("\0", 1));
  sha.Update(file.content);
  return sha.HexDigest();
}

// The repository whose name begins `path`.
const FakeRepo* FakeHub::Find(const std::string& path, std::string* name, std::string* rest) const {
  for (const auto& [repo_name, repo] : state_.repos) {
    if (!absl::StartsWith(path, absl::StrCat(repo_name, "/"))) continue;
    *name = repo_name;
    *rest = path.substr(repo_name.size() + 1);
    return &repo;
  }
  return nullptr;
}

TestReply FakeHub::ServeHub(const TestRequest& request) {
  Intercept intercept;
  {
    MutexLock lock(&mutex_);
    intercept = hub_intercept_;
  }
  if (intercept) {
    if (auto reply = intercept(request)) return *reply;
  }
  MutexLock lock(&mutex_);
  if (absl::StartsWith(request.target, "/api/models/")) return ServeApi(request);
  std::string name, rest;
  const FakeRepo* repo = Find(request.target.substr(1), &name, &rest);
  const std::vector<std::string> parts = absl::StrSplit(rest, absl::MaxSplits('/', 2));
  if (repo == nullptr || parts.size() < 3 || parts[0] != "resolve") {
    return Error(404, "RepoNotFound", "Repository not found");
  }
  return ServeFile(request, *repo, PercentDecode(parts[2]));
}

TestReply FakeHub::ServeApi(const TestRequest& request) {
  std::string name, rest;
  const FakeRepo* repo = Find(request.target.substr(strlen("/api/models/")), &name, &rest);
  const std::string authorization = request.Header("authorization");
  if (repo == nullptr || (!repo->token.empty() && authorization != "Bearer " + repo->token)) {
    return Error(authorization.empty() ? 401 : 404, "RepoNotFound", "Repository not found");
  }
  if (absl::StartsWith(rest, "tree/")) return ServeTree(request, *repo, name);
  const std::vector<std::string> halves = absl::StrSplit(rest, '?');
  const std::string revision = PercentDecode(halves[0].substr(strlen("revision/")));
  if (revision != "main" && revision != repo->commit) {
    return Error(404, "RevisionNotFound", "Invalid rev id: " + revision);
  }
  nlohmann::json answer = {{"id", name}, {"sha", repo->commit}};
  answer["siblings"] = nlohmann::json::array();
  for (const auto& [path, file] : repo->files) {
    nlohmann::json entry = {{"rfilename", path}};
    if (halves.size() > 1 && halves[1] == "blobs=true") {
      entry["size"] = file.content.size();
      entry["blobId"] = std::string(40, 'f');
      if (file.lfs) {
        entry["lfs"] = {{"sha256", Hash(file)}, {"size", file.content.size()}};
      } else {
        entry["blobId"] = Hash(file);
      }
    }
    answer["siblings"].push_back(entry);
  }
  return Json(answer);
}

TestReply FakeHub::ServeTree(const TestRequest& request, const FakeRepo& repo,
                             const std::string& repo_name) {
  if (!state_.has_tree) return {404, {}, "no such page"};
  size_t start = 0;
  if (const size_t cursor = request.target.find("cursor="); cursor != std::string::npos) {
    start = static_cast<size_t>(std::atoi(request.target.c_str() + cursor + strlen("cursor=")));
  }
  nlohmann::json page = nlohmann::json::array();
  page.push_back(
      {{"type", "directory"}, {"oid", std::string(40, 'd')}, {"size", 0}, {"path", "x"}});
  size_t i = 0;
  for (const auto& [path, file] : repo.files) {
    if (i++ < start || i > start + state_.page_size) continue;
    nlohmann::json entry = {{"type", "file"}, {"path", path}, {"size", file.content.size()}};
    if (file.lfs) {
      entry["oid"] = std::string(40, 'f');  // of the pointer
      entry["lfs"] = {{"oid", Hash(file)}, {"size", file.content.size()}, {"pointerSize", 134}};
    } else {
      entry["oid"] = Hash(file);
    }
    page.push_back(entry);
  }
  TestReply reply = Json(page);
  if (start + state_.page_size < repo.files.size()) {
    reply.headers.push_back({"Link", absl::StrCat("<", endpoint(), "/api/models/", repo_name,
                                                  "/tree/", repo.commit, "?recursive=true&cursor=",
                                                  start + state_.page_size, ">; rel=\"next\"")});
  }
  return reply;
}

TestReply FakeHub::ServeFile(const TestRequest& request, const FakeRepo& repo,
                             const std::string& path) {
  const std::string authorization = request.Header("authorization");
  if (!repo.gate_token.empty() && authorization != "Bearer " + repo.gate_token) {
    return Error(authorization.empty() ? 401 : 403, "GatedRepo", "Access to model is restricted.");
  }
  const auto found = repo.files.find(path);
  if (found == repo.files.end()) return Error(404, "EntryNotFound", "Entry not found");
  const FakeFile& file = found->second;
  const std::string hash = Hash(file);
  if (!file.lfs) {
    TestReply reply = ServeContent(request, file.content);
    reply.headers.push_back({"X-Repo-Commit", repo.commit});
    reply.headers.push_back({"ETag", absl::StrCat("\"", hash, "\"")});
    return reply;
  }
  return {302,
          {{"X-Repo-Commit", repo.commit},
           {"X-Linked-Etag", absl::StrCat("\"", hash, "\"")},
           {"X-Linked-Size", absl::StrCat(file.content.size())},
           {"ETag", "\"of-the-redirect\""},
           {"Location", absl::StrCat(cdn_->origin(), "/lfs/", hash, "?signature=secret")}},
          "Found. Redirecting"};
}

TestReply FakeHub::ServeCdn(const TestRequest& request) {
  Intercept intercept;
  {
    MutexLock lock(&mutex_);
    intercept = cdn_intercept_;
  }
  if (intercept) {
    if (auto reply = intercept(request)) return *reply;
  }
  MutexLock lock(&mutex_);
  for (const auto& [name, repo] : state_.repos) {
    for (const auto& [path, file] : repo.files) {
      if (file.lfs && absl::StrContains(request.target, Hash(file))) {
        return ServeContent(request, file.content);
      }
    }
  }
  return {404, {}, "no such object"};
}

}  // namespace featurescope
