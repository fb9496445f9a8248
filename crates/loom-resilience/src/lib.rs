//! Circuit breaker, rate limiter, retry, timeout and bulkhead for any async call; stands alone.
