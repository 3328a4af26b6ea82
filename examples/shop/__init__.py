"""A shop of four parts: FastAPI takes orders, SQLAlchemy keeps them, Redis caches prices, Celery fulfils them."""
