// Listing the features of an index: orders, filters, pages.
//
// A page token names the last feature of its page by (value, feature), so that the next page begins
// right behind it however many features share the value.
#include <algorithm>
#include <bit>
#include <utility>

#include "absl/strings/escaping.h"
#include "server/base/status.h"
#include "server/store/index_blobs.h"
#include "server/store/index_db.h"
#include "server/store/index_lease.h"

namespace featurescope {
namespace {

constexpr size_t kMaxKeptMatches = 16;
constexpr size_t kMaxTokenText = 256;
constexpr uint64_t kTokenVersion = 1;

double Value(const FeatureRow& row, FeatureOrder order) {
  switch (order) {
    case FeatureOrder::kFeature:
      return row.feature;
    case FeatureOrder::kDensity:
      return row.density;
    case FeatureOrder::kMax:
      return row.max;
    case FeatureOrder::kMean:
      return row.mean;
    case FeatureOrder::kStd:
      return row.std;
    case FeatureOrder::kSkewness:
      return row.skewness;
    case FeatureOrder::kKurtosis:
      return row.kurtosis;
    case FeatureOrder::kDecoderNorm:
      return row.decoder_norm;
  }
  return 0;
}

// Whether (a, feature_a) comes before (b, feature_b).
bool Before(double a, uint32_t feature_a, double b, uint32_t feature_b, bool descending) {
  if (a != b) return descending ? a > b : a < b;
  return feature_a < feature_b;
}

bool Passes(const FeatureRow& row, const FeatureFilter& f, const std::vector<bool>* match) {
  return (!f.alive_only || row.n_active > 0) && (match == nullptr || (*match)[row.feature]) &&
         (!f.min_density || row.density >= *f.min_density) &&
         (!f.max_density || row.density <= *f.max_density) &&
         (!f.min_max || row.max >= *f.min_max) && (!f.max_max || row.max <= *f.max_max) &&
         (!f.min_mean || row.mean >= *f.min_mean) && (!f.max_mean || row.mean <= *f.max_mean);
}

// A number for order and filter: a page token is good for the same ones only.
uint64_t Fingerprint(const FeatureQuery& query) {
  BlobWriter out;
  out.Varint(static_cast<uint64_t>(query.order));
  out.Varint(query.descending);
  const FeatureFilter& f = query.filter;
  for (const auto* bound :
       {&f.min_density, &f.max_density, &f.min_max, &f.max_max, &f.min_mean, &f.max_mean}) {
    out.Varint(bound->has_value());
    out.Double(bound->value_or(0));
  }
  out.Varint(f.alive_only);
  out.Bytes(f.token_text);
  uint64_t hash = kTokenVersion;
  for (const char c : out.Take()) hash = Mix64(hash ^ static_cast<unsigned char>(c));
  return hash;
}

uint64_t Check(uint64_t fingerprint, double value, uint32_t feature) {
  return Mix64(Mix64(fingerprint ^ std::bit_cast<uint64_t>(value)) ^ feature);
}

std::string MakePageToken(const FeatureQuery& query, const FeatureRow& last) {
  const double value = Value(last, query.order);
  BlobWriter out;
  out.Double(value);
  out.Varint(last.feature);
  out.Varint(Check(Fingerprint(query), value, last.feature));
  return absl::WebSafeBase64Escape(out.Take());
}

}  // namespace

std::shared_ptr<const std::vector<uint32_t>> IndexReader::Order(FeatureOrder order,
                                                                bool descending) const {
  MutexLock lock(&cache_mutex_);
  auto& kept = orders_[{order, descending}];
  if (kept == nullptr) {
    std::vector<std::pair<double, uint32_t>> keys;
    keys.reserve(features_.size());
    for (const FeatureRow& row : features_) keys.emplace_back(Value(row, order), row.feature);
    std::sort(keys.begin(), keys.end(), [descending](const auto& a, const auto& b) {
      return Before(a.first, a.second, b.first, b.second, descending);
    });
    std::vector<uint32_t> features;
    features.reserve(keys.size());
    for (const auto& key : keys) features.push_back(key.second);
    kept = std::make_shared<const std::vector<uint32_t>>(std::move(features));
  }
  return kept;
}

absl::Status IndexReader::LoadFeatureTokens() const {
  if (!feature_token_begin_.empty()) return absl::OkStatus();
  std::vector<uint32_t> begin = {0};
  std::vector<uint32_t> tokens;
  Lease db(this);
  ASSIGN_OR_RETURN(Statement select,
                   db.get()->Prepare("SELECT packed FROM detail ORDER BY feature"));
  ASSIGN_OR_RETURN(bool more, select.Step());
  for (const FeatureRow& row : features_) {
    if (row.top_token) tokens.push_back(*row.top_token);
    if (!more || !UnpackTopLogitTokens(select.Blob(0), &tokens)) {
      return Damaged(absl::StrCat("detail of feature ", row.feature));
    }
    begin.push_back(static_cast<uint32_t>(tokens.size()));
    ASSIGN_OR_RETURN(more, select.Step());
  }
  feature_token_begin_ = std::move(begin);
  feature_tokens_ = std::move(tokens);
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const std::vector<bool>>> IndexReader::MatchTokenText(
    const std::string& text) const {
  MutexLock lock(&cache_mutex_);
  for (const auto& [kept_text, match] : matches_) {
    if (kept_text == text) return match;
  }
  RETURN_IF_ERROR(Explain(LoadFeatureTokens()));

  const absl::string_view all = token_bytes_;
  std::vector<bool> token_matches(token_special_.size());
  for (size_t id = 0; id < token_matches.size(); ++id) {
    const absl::string_view bytes =
        all.substr(token_begin_[id], token_begin_[id + 1] - token_begin_[id]);
    token_matches[id] = bytes.find(text) != absl::string_view::npos;
  }
  std::vector<bool> match(features_.size());
  for (size_t f = 0; f < match.size(); ++f) {
    for (uint32_t i = feature_token_begin_[f]; i < feature_token_begin_[f + 1]; ++i) {
      const uint32_t token = feature_tokens_[i];
      if (token < token_matches.size() && token_matches[token]) match[f] = true;
    }
  }
  if (matches_.size() >= kMaxKeptMatches) matches_.erase(matches_.begin());
  matches_.emplace_back(text, std::make_shared<const std::vector<bool>>(std::move(match)));
  return matches_.back().second;
}

absl::StatusOr<size_t> IndexReader::PageBegin(const FeatureQuery& query,
                                              const std::vector<uint32_t>& order) const {
  if (query.page_token.empty()) return size_t{0};
  std::string packed;
  const bool decoded = absl::WebSafeBase64Unescape(query.page_token, &packed);
  BlobReader in(packed);
  const double value = in.Double();
  const auto feature = static_cast<uint32_t>(in.Varint(kMaxIndexFeatures));
  const uint64_t check = in.Varint(~uint64_t{0});
  if (!decoded || !in.done() || check != Check(Fingerprint(query), value, feature)) {
    return InvalidArgument(
        "the page token is not one of this list: order and filter must be those it came with");
  }
  const auto begin = std::partition_point(order.begin(), order.end(), [&](uint32_t candidate) {
    return !Before(value, feature, Value(features_[candidate], query.order), candidate,
                   query.descending);
  });
  return static_cast<size_t>(begin - order.begin());
}

absl::StatusOr<FeaturePage> IndexReader::ListFeatures(const FeatureQuery& query) const {
  if (query.page_size < 1 || query.page_size > kMaxFeaturePageSize) {
    return InvalidArgument("page size ", query.page_size, " is out of range [1, ",
                           kMaxFeaturePageSize, "]");
  }
  const FeatureFilter& filter = query.filter;
  if (filter.token_text.size() > kMaxTokenText) {
    return InvalidArgument("token_text has ", filter.token_text.size(), " bytes, at most ",
                           kMaxTokenText, " are possible");
  }
  std::shared_ptr<const std::vector<bool>> match;
  if (!filter.token_text.empty()) {
    ASSIGN_OR_RETURN(match, MatchTokenText(filter.token_text));
  }
  const auto order = Order(query.order, query.descending);
  ASSIGN_OR_RETURN(const size_t begin, PageBegin(query, *order));

  FeaturePage page;
  for (const FeatureRow& row : features_) page.total += Passes(row, filter, match.get());
  for (size_t i = begin; i < order->size(); ++i) {
    const FeatureRow& row = features_[(*order)[i]];
    if (!Passes(row, filter, match.get())) continue;
    if (page.features.size() == query.page_size) {
      page.next_page_token = MakePageToken(query, page.features.back());
      break;
    }
    page.features.push_back(row);
  }
  return page;
}

}  // namespace featurescope
