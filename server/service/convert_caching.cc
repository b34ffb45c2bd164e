// Activation caches between the contract and the core.
#include "server/base/status.h"
#include "server/service/convert.h"

namespace featurescope {

absl::StatusOr<CachingJob> FromProto(const v1::CachingSpec& spec) {
  CachingJob job;
  job.cache_id = spec.cache_id();
  job.model_id = spec.model_id();
  job.corpus_id = spec.corpus_id();
  job.hook_names.assign(spec.hook_names().begin(), spec.hook_names().end());
  ASSIGN_OR_RETURN(job.dtype, ParseCacheDType(spec.dtype()));
  job.special_tokens = spec.special_tokens();
  return job;
}

void ToProto(const CachingJob& job, v1::CachingSpec* out) {
  out->set_cache_id(job.cache_id);
  out->set_model_id(job.model_id);
  out->set_corpus_id(job.corpus_id);
  for (const std::string& name : job.hook_names) out->add_hook_names(name);
  out->set_dtype(std::string(CacheDTypeName(job.dtype)));
  out->set_special_tokens(job.special_tokens);
}

void ToProto(const ActivationCacheEntry& entry, v1::ActivationCache* out) {
  out->set_id(entry.id);
  for (const std::string& name : entry.hook_names) out->add_hook_names(name);
  for (const uint32_t width : entry.widths) out->add_widths(width);
  out->set_dtype(entry.dtype);
  out->set_n_rows(entry.n_rows);
  out->set_bytes(entry.bytes);
}

}  // namespace featurescope
