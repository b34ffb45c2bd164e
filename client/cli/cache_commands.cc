// cache: a model's activations on a corpus, written to disk once for many trainings.
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "client/cli/commands.h"
#include "client/cli/job_text.h"
#include "client/cli/training_fields.h"
#include "server/base/status.h"

namespace featurescope {
namespace {

using v1::JobService;

absl::Status AddCache(const Args& args, CommandContext& context) {
  v1::SubmitCachingRequest request;
  v1::CachingSpec& spec = *request.mutable_spec();
  spec.set_cache_id(args.at(0));
  spec.set_model_id(args.Get("model"));
  spec.set_corpus_id(args.Get("corpus"));
  for (const absl::string_view hook : absl::StrSplit(args.Get("hooks"), ',', absl::SkipEmpty())) {
    spec.add_hook_names(std::string(hook));
  }
  if (args.Has("dtype")) spec.set_dtype(DtypeName(args.Get("dtype")));
  spec.set_special_tokens(args.Has("special-tokens"));
  request.set_idempotency_key(args.Get("idempotency-key"));
  v1::Job job;
  RETURN_IF_ERROR(context.client.Call(context.client.jobs(), &JobService::Stub::SubmitCaching,
                                      request, &job, absl::Minutes(30)));
  return AfterSubmission(args, context, job);
}

absl::Status ListCaches(const Args&, CommandContext& context) {
  v1::ListActivationCachesResponse response;
  RETURN_IF_ERROR(context.client.Call(context.client.jobs(),
                                      &JobService::Stub::ListActivationCaches,
                                      v1::ListActivationCachesRequest(), &response));
  std::vector<std::vector<std::string>> rows;
  for (const v1::ActivationCache& cache : response.caches()) {
    rows.push_back({cache.id(), absl::StrJoin(cache.hook_names(), ", "),
                    absl::StrJoin(cache.widths(), ", "), cache.dtype(),
                    absl::StrCat(cache.n_rows()), FormatBytes(static_cast<double>(cache.bytes()))});
  }
  PrintAnswer(
      context, response,
      FormatTable(context.terminal, {"cache", "hooks", "widths", "dtype", "tokens", "size"}, rows));
  return absl::OkStatus();
}

absl::Status DeleteCache(const Args& args, CommandContext& context) {
  v1::DeleteActivationCacheRequest request;
  request.set_cache_id(args.at(0));
  v1::DeleteActivationCacheResponse response;
  RETURN_IF_ERROR(context.client.Call(
      context.client.jobs(), &JobService::Stub::DeleteActivationCache, request, &response));
  PrintAnswer(context, response, absl::StrCat("deleted ", args.at(0), "\n"));
  return absl::OkStatus();
}

}  // namespace

std::vector<Command> CacheCommands() {
  return {
      {"cache",
       "add",
       "Writes a model's activations on a corpus to disk, as a job, for train --activations.",
       {{"ID"}},
       {{"model", "ID", "the model", true},
        {"corpus", "ID", "the corpus", true},
        {"hooks", "A,B", "the hook points", true},
        {"dtype", "NAME", "bf16 (default), fp16 or fp32"},
        {"special-tokens", "", "keep the positions of special tokens and BOS, too"},
        {"idempotency-key", "KEY", "submitting twice with one key makes one job"},
        {"wait", "", "wait for the end, with a progress bar"}},
       AddCache},
      {"cache", "list", "Lists the activation caches.", {}, {}, ListCaches},
      {"cache", "delete", "Removes an activation cache.", {{"ID"}}, {}, DeleteCache},
  };
}

}  // namespace featurescope
