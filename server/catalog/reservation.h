// One change of an entry at a time.
#pragma once

#include <string>

#include "server/catalog/catalog.h"

namespace featurescope {

class Catalog::Reservation {
 public:
  // Waits until nobody else changes `key`, e.g. "model:gpt2".
  Reservation(Catalog* catalog, std::string key) : catalog_(catalog), key_(std::move(key)) {
    absl::MutexLock lock(&catalog_->mutex_);
    const auto is_free = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(catalog_->mutex_) {
      return !catalog_->being_added_.contains(key_);
    };
    catalog_->mutex_.Await(absl::Condition(&is_free));
    catalog_->being_added_.insert(key_);
  }
  ~Reservation() {
    absl::MutexLock lock(&catalog_->mutex_);
    catalog_->being_added_.erase(key_);
  }
  Reservation(const Reservation&) = delete;
  Reservation& operator=(const Reservation&) = delete;

 private:
  Catalog* const catalog_;
  const std::string key_;
};

}  // namespace featurescope
